"""Requests to the calculators with their answers: the examples of the OpenAPI document, which a test asks for.

What an answer says of units and assumptions is beside the routes.
"""

from __future__ import annotations

from typing import Any

PRICE: dict[str, Any] = {
    "as_of": "2026-03-11T15:00:00Z",
    "contracts": [{"right": "P", "spot": 100, "strike": 105, "years": 0.25, "rate": 0.04, "volatility": 0.3}],
}
PRICE_ANSWER: dict[str, Any] = {
    "style": "american",
    "as_of": "2026-03-11T15:00:00Z",
    "calendar": "XNYS",
    "source": "request",
    "quality": {"contracts": 1, "calculated": 1, "reasons": {}},
    "reasons": {},
    "contracts": [
        {
            "price": 8.41342,
            "delta": -0.586732,
            "gamma": 0.0274082,
            "theta": -0.026439,
            "vega": 0.193187,
            "rho": -0.121313,
            "years": 0.25,
            "reason": None,
        }
    ],
    "next": None,
}

PRICE_COLUMNS: dict[str, Any] = {
    "as_of": "2026-03-11T15:00:00Z",
    "style": "european",
    "columns": {
        "right": "C",
        "spot": 100,
        "strike": [95, 100, 105],
        "expiration": "2026-03-20",
        "rate": 0.04,
        "volatility": 0.3,
    },
}
PRICE_COLUMNS_ANSWER: dict[str, Any] = {
    "style": "european",
    "as_of": "2026-03-11T15:00:00Z",
    "calendar": "XNYS",
    "source": "request",
    "quality": {"contracts": 3, "calculated": 3, "reasons": {}},
    "reasons": {},
    "columns": {
        "price": [5.41579, 1.95069, 0.404406],
        "delta": [0.868953, 0.517948, 0.16381],
        "gamma": [0.0446423, 0.0836383, 0.0518509],
        "theta": [-0.0639677, -0.108578, -0.0656766],
        "vega": [0.0337875, 0.0633016, 0.0392433],
        "rho": [0.0205559, 0.0125748, 0.00403062],
        "years": [0.0252283, 0.0252283, 0.0252283],
        "reason": [None, None, None],
    },
}

IMPLIED: dict[str, Any] = {
    "as_of": "2026-03-11T15:00:00Z",
    "columns": {
        "right": "P",
        "spot": 100,
        "strike": [95, 100, 105],
        "years": 0.25,
        "rate": 0.04,
        "price": [3.1, 5.4, 4.9],
    },
}
IMPLIED_ANSWER: dict[str, Any] = {
    "style": "american",
    "as_of": "2026-03-11T15:00:00Z",
    "calendar": "XNYS",
    "source": "request",
    "quality": {"contracts": 3, "calculated": 2, "reasons": {"below_intrinsic": 1}},
    "reasons": {"below_intrinsic": "the price is not above what the contract is worth without volatility"},
    "columns": {
        "implied_volatility": [0.286222, 0.292813, None],
        "years": [0.25, 0.25, 0.25],
        "reason": [None, None, "below_intrinsic"],
    },
}

STRATEGY: dict[str, Any] = {
    "as_of": "2026-03-11T15:00:00Z",
    "spot": 100,
    "rate": 0.04,
    "fee_per_contract": 0.65,
    "points": 3,
    "legs": [
        {"right": "C", "strike": 100, "years": 0.25, "bid": 6.3, "ask": 6.5, "quantity": 1},
        {"right": "C", "strike": 110, "years": 0.25, "bid": 2.5, "ask": 2.6, "quantity": -1},
    ],
}
STRATEGY_ANSWER: dict[str, Any] = {
    "underlying": None,
    "as_of": "2026-03-11T15:00:00Z",
    "newest_input": None,
    "session": None,
    "source": "request",
    "spot": {"price": 100.0, "time": None, "kind": "request"},
    "rate": {"kind": "request", "detail": "stated in the request"},
    "quality": None,
    "legs": [
        {
            "leg": 1,
            "type": "option",
            "symbol": None,
            "right": "C",
            "strike": 100.0,
            "expiration": None,
            "years": 0.25,
            "style": "american",
            "quantity": 1.0,
            "multiplier": 100.0,
            "bid": 6.3,
            "ask": 6.5,
            "mid": 6.4,
            "half_spread": 0.1,
            "executable": 6.5,
            "volatility": 0.296988,
            "theoretical": None,
            "delta": 0.556298,
            "gamma": 0.0265979,
            "theta": -0.0375318,
            "vega": 0.197482,
            "rho": 0.123074,
            "reason": None,
        },
        {
            "leg": 2,
            "type": "option",
            "symbol": None,
            "right": "C",
            "strike": 110.0,
            "expiration": None,
            "years": 0.25,
            "style": "american",
            "quantity": -1.0,
            "multiplier": 100.0,
            "bid": 2.5,
            "ask": 2.6,
            "mid": 2.55,
            "half_spread": 0.05,
            "executable": 2.5,
            "volatility": 0.287282,
            "theoretical": None,
            "delta": 0.300803,
            "gamma": 0.0242349,
            "theta": -0.0304161,
            "vega": 0.174056,
            "rho": 0.0688258,
            "reason": None,
        },
    ],
    "cost": {"executable": 401.3, "mid": 385.0, "half_spreads": 15.0, "fees": 1.3, "problems": [], "reason": None},
    "horizon": {
        "expiration": None,
        "years": 0.25,
        "one_expiration": True,
        "forward": 101.005,
        "rate": 0.04,
        "dividend_yield": 0.0,
    },
    "payoff": {
        "knots": [
            {"spot": 0.0, "payoff": 0.0, "profit": -401.3},
            {"spot": 100.0, "payoff": 0.0, "profit": -401.3},
            {"spot": 110.0, "payoff": 1000.0, "profit": 598.7},
        ],
        "slope_above": 0.0,
    },
    "break_evens": {"spots": [104.013], "flat": []},
    "extremes": {
        "greatest_gain": 598.7,
        "gain_unlimited": False,
        "gain_at": 110.0,
        "greatest_loss": 401.3,
        "loss_unlimited": False,
        "loss_at": 0.0,
        "at_zero": -401.3,
    },
    "probability_of_profit": {
        "flat": 0.392861,
        "flat_volatility": 0.296988,
        "smile": None,
        "reason": "a smile is known of stored contracts only",
    },
    "expected_profit": {
        "at_mid": {"value": 385.0, "profit": -16.3, "reason": None},
        "at_surface": {
            "value": None,
            "profit": None,
            "reason": "a leg lies beyond the fitted surface, or there is none",
        },
    },
    "greeks": {
        "value": 385.0,
        "delta": 25.5495,
        "gamma": 0.236302,
        "theta": -0.711577,
        "vega": 2.34252,
        "rho": 5.42487,
        "reason": None,
    },
    "profile": [
        {"spot": 64.6953, "at_horizon": -401.3, "now": -400.619},
        {"spot": 111.194, "at_horizon": 598.7, "now": 259.536},
        {"spot": 157.693, "at_horizon": 598.7, "now": 586.229},
    ],
    "reasons": {},
}
