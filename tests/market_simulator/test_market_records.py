"""What the seeded market writes, the real client reads; ids are new every day and come back for others."""

from __future__ import annotations

import io
from collections import defaultdict
from datetime import date
from types import SimpleNamespace

import databento
import numpy as np
import pandas as pd
import pytest
from databento.common.constants import SCHEMA_STRUCT_MAP
from databento_dbn import Metadata, Schema, SType

from ots_market.symbols import parse_option_symbol
from ots_simulator.records import DTYPES
from ots_simulator.sources import Source
from seeded_market import DAY, EQUITIES, HOUR, MINUTE, OPTIONS, SCHEMAS, TODAY, ask, day_number, shared_market

OPEN = TODAY * DAY


def store(dataset: str, schema: str, start: int, end: int) -> databento.DBNStore:
    """The records as a DBN stream, read by the vendor's own client."""
    market = shared_market()
    days = [str(np.datetime64(TODAY + step, "D")) for step in (0, 1)]
    mappings = [
        SimpleNamespace(
            raw_symbol=one.raw_symbol,
            intervals=[
                SimpleNamespace(
                    start_date=date.fromisoformat(days[0]),
                    end_date=date.fromisoformat(days[1]),
                    symbol=str(one.vendor_id),
                )
            ],
        )
        for one in market.resolve(dataset, ["ALL_SYMBOLS"], "raw_symbol", TODAY, TODAY + 1)
    ]
    metadata = Metadata(
        dataset=dataset, start=start, end=end, stype_in=SType.RAW_SYMBOL, stype_out=SType.INSTRUMENT_ID,
        schema=Schema.from_str(schema), symbols=[one.raw_symbol for one in mappings], partial=[], not_found=[],
        mappings=mappings, ts_out=False, version=3,
    )  # fmt: skip
    records = ask(market, dataset, schema, start, end)
    assert len(records)
    return databento.DBNStore.from_bytes(io.BytesIO(metadata.encode() + records.tobytes()))


def test_it_is_a_source():
    assert isinstance(shared_market(), Source)


@pytest.mark.parametrize(("dataset", "schema"), SCHEMAS)
def test_layouts_are_the_clients(dataset: str, schema: str):
    theirs = np.dtype(SCHEMA_STRUCT_MAP[Schema.from_str(schema)]._dtypes)
    ours = DTYPES[schema]
    assert ours.itemsize == theirs.itemsize
    for name in theirs.names:
        if not name.startswith("_"):
            assert ours.fields[name][1] == theirs.fields[name][1], name
            assert ours[name] == theirs[name], name


@pytest.mark.parametrize(("dataset", "schema"), SCHEMAS)
def test_the_real_client_reads_it(dataset: str, schema: str):
    end = OPEN + (DAY if schema == "ohlcv-1d" else HOUR if schema == "ohlcv-1h" else MINUTE + 1)
    read = store(dataset, schema, OPEN, end)
    frame = read.to_df()
    records = ask(shared_market(), dataset, schema, OPEN, end)
    assert len(frame) == len(records)
    # every id has its symbol on that day
    assert frame["symbol"].notna().all()
    first = next(iter(read))
    assert bytes(first) == records[:1].tobytes()
    assert len(bytes(first)) == records.dtype.itemsize
    if "action" in records.dtype.names:
        assert str(first.action) == "T"


def test_a_definition_says_what_the_symbol_says():
    frame = store(OPTIONS, "definition", OPEN, OPEN + MINUTE).to_df()
    assert len(frame) > 2_000
    assert frame["raw_symbol"].is_unique
    assert frame["instrument_id"].is_unique
    for row in frame.iloc[::37].itertuples():
        option = parse_option_symbol(row.raw_symbol)
        assert len(row.raw_symbol) == 21
        assert row.underlying == option.root
        assert row.instrument_class == option.right
        assert round(row.strike_price * 1e9) == option.strike
        assert row.expiration == pd.Timestamp(option.expiration, tz="UTC")
        assert row.contract_multiplier == 2**31 - 1
    stocks = store(EQUITIES, "definition", OPEN, OPEN + MINUTE).to_df()
    assert set(stocks["raw_symbol"]) == {"AAPL", "GOOGL", "MSFT", "AMZN", "TSLA", "NVDA", "META", "SPY", "QQQ"}
    assert set(stocks["instrument_class"]) == {"K"}


def test_a_definition_is_undefined_where_the_vendors_is(real_data):
    theirs = databento.DBNStore.from_file(
        real_data / "databento-samples/OPRA.PILLAR/test_data.definition.dbn.zst"
    ).to_ndarray()[0]
    ours = ask(shared_market(), OPTIONS, "definition", OPEN, OPEN + MINUTE, ["AAPL  260313C00250000"])
    if not len(ours):
        ours = ask(shared_market(), OPTIONS, "definition", OPEN, OPEN + MINUTE)
    own = {
        "instrument_id", "raw_instrument_id", "ts_event", "ts_recv", "expiration", "strike_price", "raw_symbol",
        "instrument_class", "underlying", "asset", "channel_id", "group",
    }  # fmt: skip
    for name in set(theirs.dtype.names) - own:
        assert ours[0][name] == theirs[name], name


def test_open_interest_is_told_by_several_publishers_and_changes_from_day_to_day():
    market = shared_market()
    by_day = []
    for day in (TODAY - 1, TODAY):
        found = ask(market, OPTIONS, "statistics", day * DAY, day * DAY + HOUR)
        assert set(found["stat_type"].tolist()) == {9}
        told = defaultdict(list)
        for record in found:
            told[int(record["instrument_id"])].append((int(record["publisher_id"]), int(record["quantity"])))
        assert all(len(who) == 3 and len({quantity for _, quantity in who}) == 1 for who in told.values())
        assert all(len({publisher for publisher, _ in who}) == 3 for who in told.values())
        names = {
            one.vendor_id: one.raw_symbol
            for one in market.resolve(OPTIONS, ["ALL_SYMBOLS"], "raw_symbol", day, day + 1)
        }
        by_day.append({names[i]: who[0][1] for i, who in told.items()})
    both = set(by_day[0]) & set(by_day[1])
    changed = [name for name in both if by_day[0][name] != by_day[1][name]]
    assert 0.5 * len(both) < len(changed)
    ratio = np.array([by_day[1][n] / by_day[0][n] for n in both if by_day[0][n] > 100])
    assert 0.8 < np.median(ratio) < 1.3
    new = set(by_day[1]) - set(by_day[0])
    assert all(by_day[1][name] == 0 for name in new)


def test_ids_change_daily_and_come_back_as_somebody_else():
    market = shared_market()
    holders: dict[tuple[str, int], set[str]] = defaultdict(set)
    ids: dict[str, set[int]] = defaultdict(set)
    for day in range(TODAY - 20, TODAY + 1):
        for dataset in (EQUITIES, OPTIONS):
            found = market.resolve(dataset, ["ALL_SYMBOLS"], "raw_symbol", day, day + 1)
            assert len({one.vendor_id for one in found}) == len(found) == len({one.raw_symbol for one in found})
            assert all((one.starts, one.ends) == (day, day + 1) for one in found)
            for one in found:
                holders[dataset, one.vendor_id].add(one.raw_symbol)
                ids[one.raw_symbol].add(one.vendor_id)
    assert np.mean([len(names) > 1 for names in holders.values()]) > 0.9
    assert all(len(ids[symbol]) > 5 for symbol in ("AAPL", "SPY"))


def test_parents_are_the_chain_and_names_alone_find_themselves():
    market = shared_market()
    chain = market.resolve(OPTIONS, ["NVDA.OPT"], "parent", TODAY, TODAY + 1)
    assert {one.raw_symbol[:6] for one in chain} == {"NVDA  "}
    some = [one.raw_symbol for one in chain[5:9]]
    assert market.resolve(OPTIONS, [*some, "NVDA  990101C00001000"], "raw_symbol", TODAY, TODAY + 1) == chain[5:9]
    assert market.resolve(EQUITIES, ["NVDA"], "parent", TODAY, TODAY + 1) == []
    assert len(market.resolve(EQUITIES, ["NVDA"], "raw_symbol", TODAY - 9, TODAY + 5)) == 11  # it is midnight


class TestListings:
    def expirations(self, symbol: str, day: int) -> list[date]:
        found = {parse_option_symbol(s).expiration for s in shared_market().chains.chain(symbol, day).raw_symbols}
        return sorted(found)

    def test_fridays_third_fridays_and_dailies(self):
        aapl, spy = self.expirations("AAPL", TODAY), self.expirations("SPY", TODAY)
        assert aapl[:4] == [date(2026, 3, 13), date(2026, 3, 20), date(2026, 3, 27), date(2026, 4, 3)]
        assert date(2026, 4, 17) in aapl
        assert spy[:3] == [date(2026, 3, 11), date(2026, 3, 12), date(2026, 3, 13)]
        assert {date(2026, 3, 20), date(2026, 4, 17)} <= set(spy)

    def test_a_contract_stays_until_it_expires_and_new_strikes_appear(self):
        market = shared_market()
        grown = 0
        for symbol in ("TSLA", "QQQ"):
            before: set[str] = set()
            for day in range(TODAY - 25, TODAY + 1):
                now = set(market.chains.chain(symbol, day).raw_symbols)
                for name in before - now:
                    assert day_number(parse_option_symbol(name).expiration) == day - 1
                known = {name[:12] for name in before}
                grown += sum(name[:12] in known for name in now - before)
                before = now
        assert grown > 20

    def test_strikes_surround_the_price(self):
        market = shared_market()
        for symbol in ("AAPL", "SPY", "META"):
            chain, spot = market.chains.chain(symbol, TODAY), market.true.spot(symbol, OPEN)
            for expiration in np.unique(chain.expiration):
                strikes = np.unique(chain.strike[chain.expiration == expiration])
                assert (strikes < spot).sum() >= 9
                assert (strikes > spot).sum() >= 9
                steps = np.diff(strikes)
                assert np.allclose(steps, steps[0])
