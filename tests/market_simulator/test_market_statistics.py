"""What the seeded market is like: volatility, days' shapes, odd quotes at their rates, no arbitrage, and its size.

Seeds are fixed, so these cannot fail by chance; bounds are wide enough that they would hold for nearly all seeds.
"""

from __future__ import annotations

import numpy as np
import pytest

from ots_quant import american
from ots_simulator import surface, tape
from ots_simulator.market import MarketSize
from ots_simulator.paths import LEVERAGE
from ots_simulator.records import UNDEF_PRICE
from ots_simulator.surface import Contracts
from ots_simulator.underlyings import BY_SYMBOL, RATE, UNDERLYINGS
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, TODAY, ask, make_market, shared_market

OPEN = TODAY * DAY
SPY = [u.symbol for u in UNDERLYINGS].index("SPY")


class TestPaths:
    def test_what_is_realised_is_the_volatility_of_the_path(self):
        market = shared_market()
        daily = market.paths.daily
        for column, underlying in enumerate(UNDERLYINGS):
            ratio = []
            for day in range(TODAY - 60, TODAY):
                moves = np.diff(market.paths.minutes(underlying.symbol, day).log_price)
                row = market.paths.row(day)
                moves[int(daily.jump_at[row, column] * len(moves))] -= daily.jump[row, column]
                ratio.append(np.sum(moves**2) / daily.deviation[row, column] ** 2)
            # 1440 minutes, unequal: a standard error of about 5 % a day
            assert 0.95 < np.mean(ratio) < 1.05

    def test_trades_realise_it_too(self):
        market = shared_market()
        ratios = []
        for day in range(TODAY - 20, TODAY):
            bars = ask(market, EQUITIES, "ohlcv-1m", day * DAY, (day + 1) * DAY, ["TSLA"])
            five = np.log(bars["close"].astype(float))[4::5]
            column = [u.symbol for u in UNDERLYINGS].index("TSLA")
            row = market.paths.row(day)
            if market.paths.daily.jump[row, column] == 0.0:
                ratios.append(np.sum(np.diff(five) ** 2) / market.paths.daily.deviation[row, column] ** 2)
        assert 0.85 < np.mean(ratios) < 1.15

    def test_years_have_the_volatility_and_the_correlations_of_the_model(self):
        spreads, correlations, leverage = [], [], []
        for seed in range(4):
            daily = make_market(seed).paths.daily
            rows = slice(0, 730)
            moves = (daily.close_log - daily.open_log - daily.jump)[rows] / daily.deviation[rows]
            spreads.append(moves.std(axis=0))
            correlations.append(np.corrcoef(moves.T)[SPY])
            leverage.append(np.corrcoef(np.diff(daily.common)[rows], moves[:, SPY])[0, 1])
        assert np.all(np.abs(np.mean(spreads, axis=0) - 1.0) < 0.06)
        model = [u.market * UNDERLYINGS[SPY].market + u.technology * UNDERLYINGS[SPY].technology for u in UNDERLYINGS]
        model[SPY] = 1.0
        assert np.all(np.abs(np.mean(correlations, axis=0) - model) < 0.06)
        assert abs(np.mean(leverage) - LEVERAGE) < 0.1

    def test_volatility_clusters_and_returns_have_fat_tails(self):
        daily = make_market(3).paths.daily
        moves = (daily.close_log - daily.open_log)[:1000]
        kurtosis = np.mean((moves - moves.mean(0)) ** 4, axis=0) / np.var(moves, axis=0) ** 2
        assert np.mean(kurtosis) > 3.5
        level = np.log(daily.deviation[:1000, SPY])
        assert 0.15 < level.std() < 0.6
        assert np.corrcoef(level[1:], level[:-1])[0, 1] > 0.9
        assert np.abs(np.corrcoef(moves[1:, SPY], moves[:-1, SPY])[0, 1]) < 0.12

    def test_the_path_goes_on_from_day_to_day_and_from_second_to_minute(self):
        market = shared_market()
        for symbol in ("AAPL", "QQQ"):
            today, before = market.paths.minutes(symbol, TODAY), market.paths.minutes(symbol, TODAY - 1)
            assert today.log_price[0] == pytest.approx(before.log_price[-1], abs=1e-12)
            volatility = market.paths.volatility(symbol, TODAY)
            assert volatility[0] == pytest.approx(market.paths.volatility(symbol, TODAY - 1)[-1], rel=1e-9)
            assert market.true.volatility(symbol, OPEN + 90 * MINUTE) == volatility[90]
            seconds = market.paths.seconds(symbol, TODAY, 4)
            assert np.allclose(np.log(seconds[:, -1]), today.log_price[241:301], atol=1e-12)
            logs = np.log(seconds)
            assert np.all(logs.max(axis=1) <= today.high[240:300] + 1e-9)
            assert np.all(logs.min(axis=1) >= today.low[240:300] - 1e-9)

    def test_prices_stay_sane_over_years_for_any_seed(self):
        for seed in range(20):
            daily = make_market(seed).paths.daily
            far = np.abs(daily.close_log - np.log([u.price for u in UNDERLYINGS]))
            assert far.max() < np.log(5.0)
            assert np.all(np.isfinite(daily.close_log))


class TestTheDay:
    def test_trades_and_volume_draw_a_u(self):
        market = shared_market()
        for symbol in ("AAPL", "SPY"):
            days = [market.bars.minutes(symbol, day) for day in range(TODAY - 15, TODAY)]
            trades = np.mean([day.trades for day in days], axis=0)
            middle = trades[600:840].mean()
            assert trades[:60].mean() > 2.0 * middle
            assert trades[-60:].mean() > 1.7 * middle
            # heavy tails: the busiest minute is far from the usual one
            counts = np.concatenate([day.trades[600:840] for day in days])
            assert counts.max() > 3.0 * np.median(counts)

    def test_sizes_are_lots_and_odd_lots_with_a_heavy_tail(self):
        sizes = ask(shared_market(), EQUITIES, "trades", OPEN, OPEN + 6 * HOUR, ["NVDA"])["size"]
        assert 0.4 < np.mean(sizes % 100 == 0) < 0.7
        assert np.mean(sizes == 100) > 0.1
        assert sizes.max() > 30 * np.median(sizes)

    def test_odd_quotes_come_at_their_documented_rates(self):
        market = shared_market()
        bids, asks = [], []
        for symbol in ("META", "GOOGL", "AMZN"):
            for back in range(4):
                for hour in range(24):
                    quotes = market.tape.quotes(symbol, TODAY - back, hour)
                    bids.append(quotes.bid)
                    asks.append(quotes.ask)
        bid, ask_ = np.concatenate(bids), np.concatenate(asks)
        two = (bid != tape.NONE) & (ask_ != tape.NONE)
        # in seconds without a trade, which are the smaller part or half
        crossed, one_sided = np.mean(bid[two] > ask_[two]), np.mean(~two)
        assert 0.1 * tape.CROSSED_SECONDS < crossed <= 1.2 * tape.CROSSED_SECONDS
        assert 0.1 * tape.ONE_SIDED_SECONDS < one_sided <= 1.2 * tape.ONE_SIDED_SECONDS

    def test_odd_option_quotes_too(self):
        quotes = ask(shared_market(), OPTIONS, "cbbo-1m", OPEN + 10 * HOUR, OPEN + 13 * HOUR)
        bid, ask_ = quotes["bid_px_00"], quotes["ask_px_00"]
        two = (bid != UNDEF_PRICE) & (ask_ != UNDEF_PRICE)
        assert np.mean(bid[two] > ask_[two]) == pytest.approx(surface.CROSSED_QUOTES, rel=0.25)
        assert np.mean(bid[two] == ask_[two]) == pytest.approx(surface.LOCKED_QUOTES, rel=0.25)
        # most without a bid are worth less than one; some lack it by accident
        accidents = ~two & (ask_ > 200_000_000)
        assert 0.3 * surface.ONE_SIDED_QUOTES < np.mean(accidents) < 2 * surface.ONE_SIDED_QUOTES
        assert np.all(quotes["bid_sz_00"][bid == UNDEF_PRICE] == 0)
        assert np.all(quotes["bid_sz_00"][two] > 0)
        assert np.all((quotes["bid_pb_00"][two] >= 20) & (quotes["bid_pb_00"][two] <= 37))

    def test_options_trade_near_the_money_and_soon(self):
        market = shared_market()
        day, chain = market.option_tape.day("SPY", TODAY), market.chains.chain("SPY", TODAY)
        spot = market.true.spot("SPY", OPEN)
        distance = np.abs(np.log(chain.strike / spot))[day.contract]
        assert np.median(distance) < 0.02
        soon = chain.expiration[day.contract] - TODAY <= 2
        assert soon.mean() > 0.4
        assert day.size.max() > 100 * np.median(day.size)


class TestNoArbitrage:
    """In the true values, and in the mids to a tick."""

    @pytest.mark.parametrize("symbol", ["SPY", "TSLA", "AAPL"])
    def test_of_true_values_across_strikes_and_expirations(self, symbol: str):
        market = shared_market()
        chain = market.chains.chain(symbol, TODAY)
        for node in (1, 400, 900, 1435):
            values = market.option_tape._value_nodes(symbol, TODAY, node).value
            self.check(chain, values, slack=1e-2 if node > 1400 else 2e-3)

    @pytest.mark.parametrize("symbol", ["SPY", "QQQ"])
    def test_of_mids_to_a_tick(self, symbol: str):
        market = shared_market()
        chain = market.chains.chain(symbol, TODAY)
        for at in (OPEN + 5 * HOUR, OPEN + 15 * HOUR):
            quotes = ask(market, OPTIONS, "cbbo-1m", at, at + 1, set(chain.raw_symbols))
            bid, ask_ = quotes["bid_px_00"] / 1e9, quotes["ask_px_00"] / 1e9
            clean = (quotes["bid_px_00"] != UNDEF_PRICE) & (bid < ask_)
            mids = np.where(clean, (bid + ask_) / 2, np.nan)
            self.check(chain, mids, slack=0.01 + 1e-9)

    def check(self, chain, values, slack: float) -> None:
        compared = 0
        for right in (1, -1):
            for expiration in np.unique(chain.expiration):
                mine = (chain.expiration == expiration) & (chain.right == right) & np.isfinite(values)
                strike, value = chain.strike[mine], values[mine]
                if len(strike) < 3:
                    continue
                slope = np.diff(value) / np.diff(strike) * -right
                # a vertical spread is worth between nothing and the distance of its strikes
                assert np.all(slope * np.diff(strike) >= -slack)
                assert np.all(slope * np.diff(strike) <= np.diff(strike) + slack)
                butterfly = value[:-2] - 2 * value[1:-1] + value[2:]
                even = np.isclose(np.diff(strike)[1:], np.diff(strike)[:-1])
                assert np.all(butterfly[even] >= -2 * slack)
                compared += len(strike)
            # the same strike, later: worth no less
            for strike in np.unique(chain.strike):
                mine = (chain.strike == strike) & (chain.right == right) & np.isfinite(values)
                later = values[mine][np.argsort(chain.expiration[mine])]
                if right > 0 or len(later) < 2:
                    assert np.all(np.diff(later) >= -slack)
        assert compared > 100

    def test_values_are_american_prices_of_the_true_volatility_below_a_tick(self):
        market = shared_market()
        for symbol in ("META", "SPY", "TSLA"):
            chain, underlying = market.chains.chain(symbol, TODAY), BY_SYMBOL[symbol]
            contracts = Contracts(chain.strike, chain.right, chain.closes_ns, chain.key)
            minutes, volatility = market.paths.minutes(symbol, TODAY), market.paths.volatility(symbol, TODAY)
            for node in (1, 359, 800, 1300, 1430):
                at, spot = np.int64(OPEN + node * MINUTE), np.exp(minutes.log_price[node])
                values = surface.values(underlying, contracts, spot, volatility[node], at)
                years = surface.years_to(chain.closes_ns, at)
                implied = surface.implied_volatility(underlying, chain.strike, years, spot, volatility[node])
                exact = american.price(chain.right, spot, chain.strike, years, RATE, underlying.dividend_yield, implied)
                assert np.max(np.abs(values - exact)) < 0.01

    def test_implied_volatility_from_mids_finds_the_truth(self):
        market = shared_market()
        at = OPEN + 14 * HOUR
        chain = market.chains.chain("NVDA", TODAY)
        quotes = ask(market, OPTIONS, "cbbo-1m", at, at + 1, set(chain.raw_symbols))
        spot = market.true.spot("NVDA", at)
        near = np.flatnonzero((np.abs(np.log(chain.strike / spot)) < 0.05) & (chain.expiration - TODAY > 5))
        mids = (quotes["bid_px_00"] + quotes["ask_px_00"])[near] / 2e9
        found = american.implied_volatility(
            mids, chain.right[near], spot, chain.strike[near], surface.years_to(chain.closes_ns, np.int64(at))[near],
            RATE, BY_SYMBOL["NVDA"].dividend_yield,
        )  # fmt: skip
        true = [market.true.contract(chain.raw_symbols[i], at).implied_volatility for i in near]
        assert len(near) > 10
        assert np.nanmedian(np.abs(found - true)) < 0.01

    def test_the_surface_satisfies_the_theorems_condition(self):
        assert all(surface.ETA * (1 + abs(u.skew)) <= 2 for u in UNDERLYINGS)


class TestSize:
    # bytes of a stored row with its indexes, as measured by the store
    QUOTE_ROW, TRADE_ROW = 220, 220

    def test_a_laptops_day_is_within_two_gigabytes_for_any_seed(self):
        for seed in (1, 7, 23):
            market = make_market(seed)
            trades = sum(int(market.bars.minutes(u.symbol, TODAY).trades.sum()) for u in UNDERLYINGS)
            contracts = sum(len(market.chains.chain(u.symbol, TODAY).strike) for u in UNDERLYINGS)
            option_trades = sum(len(market.option_tape.day(u.symbol, TODAY).at_ns) for u in UNDERLYINGS)
            seconds = len(UNDERLYINGS) * 86_400
            quotes = seconds + contracts * 1440 + option_trades
            stored = self.QUOTE_ROW * quotes + self.TRADE_ROW * (trades + option_trades) + 1000 * 5 * contracts
            assert stored < 2e9
            assert 1_500 < contracts < 4_500
            assert 80_000 < option_trades < 250_000
            for underlying in UNDERLYINGS:
                assert 40_000 < market.bars.minutes(underlying.symbol, TODAY).trades.sum() < 400_000

    def test_full_is_the_size_of_the_field(self):
        market = make_market(size=MarketSize.FULL)
        sizes = {u.symbol: len(market.chains.chain(u.symbol, TODAY).strike) for u in UNDERLYINGS}
        assert 8_000 < sizes["SPY"] < 13_000
        assert all(2_000 < n < 13_000 for n in sizes.values())
        ids = [one.vendor_id for one in market.resolve(OPTIONS, ["ALL_SYMBOLS"], "raw_symbol", TODAY, TODAY + 1)]
        assert len(set(ids)) == len(ids) == sum(sizes.values())
        minute = ask(market, OPTIONS, "cbbo-1m", OPEN + 12 * HOUR, OPEN + 12 * HOUR + 1)
        assert len(minute) == len(ids)
