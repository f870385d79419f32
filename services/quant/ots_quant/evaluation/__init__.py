"""What may be said of a record of returns or forecasts: with its sample size, its interval, its days as clusters."""

from ots_quant.evaluation.clusters import (
    Clustered,
    Interval,
    bootstrap_weights,
    clustered_mean,
    day_bootstrap,
    day_bootstraps,
    ratio_bootstrap,
)
from ots_quant.evaluation.forecasts import (
    Brier,
    CalibrationBins,
    brier,
    brier_score,
    calibration_bins,
    log_loss,
    skill,
)
from ots_quant.evaluation.intervals import wilson
from ots_quant.evaluation.power import signals_needed
from ots_quant.evaluation.records import drawdown, profit_factor
from ots_quant.evaluation.sharpe import (
    Sharpe,
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    probabilistic_sharpe,
    sharpe,
)

__all__ = [
    "Brier",
    "CalibrationBins",
    "Clustered",
    "Interval",
    "Sharpe",
    "bootstrap_weights",
    "brier",
    "brier_score",
    "calibration_bins",
    "clustered_mean",
    "day_bootstrap",
    "day_bootstraps",
    "deflated_sharpe",
    "drawdown",
    "expected_maximum_sharpe",
    "log_loss",
    "minimum_track_record",
    "probabilistic_sharpe",
    "profit_factor",
    "ratio_bootstrap",
    "sharpe",
    "signals_needed",
    "skill",
    "wilson",
]
