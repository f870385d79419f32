"""Where the spot will be, by the options' prices: distribution, touching, expected move, assumptions named.

All probabilities are risk-neutral: they price, they do not forecast. `risk_neutral` takes a smile and gives the whole
distribution at expiration; `finish`, `touch`, `touch_either` take arrays of options or levels; `option_touch` and
`option_bracket` ask whether an option's own price reaches a target; `RoundTrip` and `expected_bid` say which target
costs ask for, and what to expect of buying at the ask and selling at the bid; the three ``*_move`` functions give the
expected move. Arrays broadcast; times in years of 365 days, rates, yields and volatilities as decimals.
"""

from ots_quant.density.assumptions import Assumption
from ots_quant.density.distribution import RiskNeutral, risk_neutral
from ots_quant.density.expected_move import ExpectedMove, StraddleMove, flat_move, smile_move, straddle_move
from ots_quant.density.finishing import Finish, finish
from ots_quant.density.option_touch import OptionBracket, OptionTouch, option_bracket, option_touch, spot_at_price
from ots_quant.density.round_trip import RoundTrip, expected_bid
from ots_quant.density.smile import Smile
from ots_quant.density.touching import DoubleTouch, Touch, touch, touch_either

__all__ = [
    "Assumption",
    "DoubleTouch",
    "ExpectedMove",
    "Finish",
    "OptionBracket",
    "OptionTouch",
    "RiskNeutral",
    "RoundTrip",
    "Smile",
    "StraddleMove",
    "Touch",
    "expected_bid",
    "finish",
    "flat_move",
    "option_bracket",
    "option_touch",
    "risk_neutral",
    "smile_move",
    "spot_at_price",
    "straddle_move",
    "touch",
    "touch_either",
]
