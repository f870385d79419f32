"""What the readings of GOOG are, 2015-12-24 at 11:00 New York, at a flat rate of 0.3 %: one row of each table.

Figures have six digits. A test holds them to what is answered.
"""

from __future__ import annotations

from typing import Any

HEADING: dict[str, Any] = {
    "underlying": "GOOG",
    "as_of": "2015-12-24T16:00:00Z",
    "newest_input": "2015-12-24T16:00:00Z",
    "session": "2015-12-24",
    "source": "databento",
    "spot": {"price": 749.23, "time": "2015-12-24T16:00:00Z", "kind": "bar"},
    "rate": {"kind": "curve", "detail": "flat, 2015-12-23"},
    "quality": {
        "contracts": 2192,
        "with_volatility": 970,
        "without_volatility": {"below_intrinsic": 113, "no_ask": 326, "no_bid": 763, "no_quote": 2, "stale": 18},
        "crossed": 0,
        "stale": False,
        "stale_quotes": 18,
        "max_quote_age_s": 900,
        "newest_quote": "2015-12-24T16:00:00Z",
        "no_spot": None,
        "other_deliverables": 0,
        "gaps": 0,
    },
}
CERTIFICATE: dict[str, Any] = {
    "arbitrage_free_inside": True,
    "butterfly": {
        "inside": {"failing": 0, "points": 4931, "worst": 0.0},
        "outside": {"failing": 0, "points": 2701, "worst": 0.0},
    },
    "calendar": {
        "inside": {"failing": 0, "points": 4591, "worst": 0.0},
        "outside": {"failing": 0, "points": 2768, "worst": 0.0},
    },
    "between": {
        "inside": {"failing": 0, "points": 4591, "worst": 0.0},
        "outside": {"failing": 0, "points": 2768, "worst": 0.0},
    },
    "rms_volatility": 0.00488606,
    "max_volatility": 0.0864602,
    "rms_half_spreads": 0.349558,
    "share_within_spread": 0.985222,
    "contracts_used": 609,
    "contracts_left_out": {"one_sided": 1109, "in_the_money": 474},
}
SLICES: list[dict[str, Any]] = [
    {
        "expiration": "2016-01-15",
        "days_to_expiration": 22,
        "years": 0.0608447,
        "shape": "fitted",
        "forward": 749.391,
        "forward_low": 749.007,
        "forward_high": 750.006,
        "rate": 0.003,
        "dividend_yield": -0.000531888,
        "at_the_money": 0.18653,
        "svi_a": -0.00468732,
        "svi_b": 0.0460714,
        "svi_rho": -0.850114,
        "svi_m": -0.206019,
        "svi_sigma": 0.248547,
        "strike_low": 652.5,
        "strike_high": 850.0,
        "contracts_used": 64,
        "contracts_left_out": 278,
        "rms_volatility": 0.0112744,
        "reason": None,
    }
]
SKEW: list[dict[str, Any]] = [
    {
        "expiration": "2016-01-15",
        "days_to_expiration": 22,
        "years": 0.0608447,
        "shape": "fitted",
        "forward": 749.391,
        "at_the_money": 0.18653,
        "slope": -0.430191,
        "risk_reversal_25_delta": -0.0270607,
        "butterfly_25_delta": 0.00183336,
        "call_25_delta": 0.174833,
        "call_25_delta_strike": 772.227,
        "put_25_delta": 0.201894,
        "put_25_delta_strike": 725.536,
        "risk_reversal_10_delta": -0.0555405,
        "butterfly_10_delta": 0.00850884,
        "call_10_delta": 0.167269,
        "call_10_delta_strike": 790.755,
        "put_10_delta": 0.222809,
        "put_10_delta_strike": 699.48,
        "reason": None,
    }
]
CONSTANT_MATURITIES: list[dict[str, Any]] = [{"days": 30.0, "at_the_money": 0.229617, "reason": None}]
TERMS: list[dict[str, Any]] = [
    {
        "expiration": "2016-01-15",
        "days_to_expiration": 22,
        "years": 0.0608447,
        "shape": "fitted",
        "forward": 749.391,
        "at_the_money": 0.18653,
        "total_variance": 0.00211701,
        "from_expiration": "2016-01-08",
        "forward_volatility": 0.207986,
        "reason": None,
    }
]
MOVES: list[dict[str, Any]] = [
    {
        "expiration": "2016-01-15",
        "days_to_expiration": 22,
        "years": 0.0608447,
        "forward": 749.391,
        "at_the_money": 0.18653,
        "straddle_strike": 750.0,
        "straddle_bid": 27.2,
        "straddle_mid": 27.65,
        "straddle_ask": 28.1,
        "straddle_mean_absolute_at_bid": 27.205,
        "straddle_mean_absolute_at_mid": 27.655,
        "straddle_mean_absolute_at_ask": 28.1051,
        "straddle_standard_deviation_at_mid": 34.6605,
        "straddle_desk_convention_at_mid": 23.5025,
        "flat_mean_absolute": 27.5088,
        "flat_standard_deviation": 34.4984,
        "flat_lower": 714.935,
        "flat_upper": 783.847,
        "smile_mean_absolute": 27.5088,
        "smile_standard_deviation": 35.8046,
        "smile_lower": 716.205,
        "smile_upper": 783.258,
        "smile_probability_between_quoted_strikes": 0.988399,
        "reason": None,
    }
]
OPEN_INTEREST: dict[str, Any] = {
    "date": "2015-12-23",
    "oldest_date": "2015-12-23",
    "contracts": 2058,
    "contracts_without": 134,
    "reason": None,
}
TOTALS: dict[str, Any] = {
    "assumptions": {
        "calls_long_puts_short": {
            "gamma": 136756000.0,
            "delta": 4044870000.0,
            "vanna": 28416400.0,
            "charm": 144726000.0,
        },
        "calls_short_puts_long": {
            "gamma": -136756000.0,
            "delta": -4044870000.0,
            "vanna": -28416400.0,
            "charm": -144726000.0,
        },
        "all_short": {"gamma": -542047000.0, "delta": -1051970000.0, "vanna": -6700040.0, "charm": -248345000.0},
        "all_long": {"gamma": 542047000.0, "delta": 1051970000.0, "vanna": 6700040.0, "charm": 248345000.0},
    },
    "least": {"gamma": -542047000.0, "delta": -4044870000.0, "vanna": -28416400.0, "charm": -248345000.0},
    "greatest": {"gamma": 542047000.0, "delta": 4044870000.0, "vanna": 28416400.0, "charm": 248345000.0},
}
CONTRACTS_LEFT_OUT: dict[str, Any] = {
    "contracts": 398,
    "reasons": {
        "below_intrinsic": 46,
        "no_ask": 32,
        "no_bid": 171,
        "no_open_interest": 134,
        "no_quote": 1,
        "stale": 14,
    },
    "open_interest": 44740,
    "of_open_interest": 179502,
    "at_the_surfaces_volatility": 360,
}
ZERO_GAMMA: dict[str, Any] = {
    "spot": 736.804,
    "all": [736.684],
    "exercise": "american",
    "reason": None,
    "assumption": "calls_long_puts_short; each contract keeps its volatility while the spot moves (sticky strike)",
    "searched": {"from": 524.461, "to": 973.999, "points": 241},
    "profile": None,
}
MAX_PAIN: dict[str, Any] = {
    "strike": None,
    "highest": None,
    "reason": "it is of one expiration: expiration=, or by=expiration",
}
EXPOSURES: list[dict[str, Any]] = [
    {
        "strike": 750.0,
        "gamma": 51722700.0,
        "gamma_least": -111718000.0,
        "gamma_greatest": 111718000.0,
        "delta": 273456000.0,
        "delta_least": -273456000.0,
        "delta_greatest": 273456000.0,
        "vanna": 556353.0,
        "vanna_least": -1005140.0,
        "vanna_greatest": 1005140.0,
        "charm": -18226400.0,
        "charm_least": -40332100.0,
        "charm_greatest": 40332100.0,
        "left_out": 2,
        "reason": None,
    }
]
PUT_CALL: dict[str, Any] = {
    "open_interest": {"put_call_ratio": 1.0974, "puts": 93919, "calls": 85583, "reason": None},
    "volume": {"put_call_ratio": None, "puts": 0, "calls": 0, "reason": "no contracts"},
}
OPEN_INTERESTS: list[dict[str, Any]] = [
    {
        "expiration": "2016-01-15",
        "days_to_expiration": 22,
        "call_open_interest": 28394,
        "put_open_interest": 30840,
        "open_interest_put_call_ratio": 1.08614,
        "call_volume": 0,
        "put_volume": 0,
        "volume_put_call_ratio": None,
        "contracts": 342,
        "contracts_without_open_interest": 0,
        "max_pain": 690.0,
        "max_pain_highest": 690.0,
        "reason": "volume: no calls traded",
    }
]
