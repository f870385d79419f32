"""Too large, simulated, and which spooled files are kept."""

from databento_dbn import Schema

from data_ingestion_support import Ingestion, settings_for
from dbn import dbn_file, trade

OPEN = 1_709_562_600_000_000_000


def test_an_upload_over_the_limit_is_refused_and_not_kept(market, redis_server, tmp_path):
    service = Ingestion(settings_for(market, redis_server, tmp_path, max_upload_bytes=2000))
    body = dbn_file(Schema.TRADES, [trade(OPEN + i, 1) for i in range(2000)], compress=False)
    assert service.upload(body).status_code == 413
    assert list(tmp_path.iterdir()) == []


def test_a_simulated_platform_takes_no_real_data(market, redis_server, tmp_path):
    service = Ingestion(settings_for(market, redis_server, tmp_path, market_source="simulated"))
    answer = service.upload(dbn_file(Schema.TRADES, []))
    assert answer.status_code == 409
    assert "MARKET_SOURCE=databento" in answer.json["hint"]


def mixed(trade_record: bytes, rtype: int) -> bytes:
    """A live capture: a trade, and the same bytes as a record of another type."""
    other = bytearray(trade_record)
    other[1] = rtype
    return dbn_file(None, [trade_record, bytes(other)], symbols={"MIXED": 1})


def test_a_spooled_file_goes_when_every_record_is_stored_or_a_dead_letter(market, redis_server, tmp_path):
    service = Ingestion(settings_for(market, redis_server, tmp_path))
    lost = trade(OPEN, 1, instrument=9999)
    with service.working():
        service.imported(dbn_file(Schema.TRADES, [trade(OPEN, 1)], symbols={"STAYS": 1}))
        assert service.imported(dbn_file(Schema.TRADES, [lost], symbols={}))["rejected"] == 1
    assert list(tmp_path.iterdir()) == []
    letters = market.database.rows("SELECT records FROM dead_letters WHERE replayed_at IS NULL")
    assert lost in [bytes(records) for (records,) in letters]


def test_a_spooled_file_stays_that_holds_what_is_not_stored_here(market, redis_server, tmp_path):
    service = Ingestion(settings_for(market, redis_server, tmp_path))
    with service.working():
        run = service.imported(mixed(trade(OPEN, 1), 99))
        assert run["reasons"] == {"unsupported_record_type_99": 1}
        assert [path.name for path in tmp_path.iterdir()] == [f"{run['id']}.dbn"]


def test_a_spooled_file_from_before_there_were_dead_letters_stays(market, redis_server, tmp_path):
    service = Ingestion(settings_for(market, redis_server, tmp_path))
    market.database.execute("DELETE FROM dead_letters")
    spooled = tmp_path / "old.dbn"
    spooled.write_bytes(b"x")
    with service.working():
        run = service.imported(dbn_file(Schema.TRADES, [trade(OPEN, 2)], symbols={"OLDER": 1}))
    market.database.execute(
        "UPDATE runs SET spool_file = 'old.dbn', stored = 0, rejected = 1, reasons = '{\"undefined_price\": 1}'"
        " WHERE run_id = %s",
        (run["id"],),
    )
    with service.working():
        # the letter is another file's
        service.imported(dbn_file(Schema.TRADES, [trade(OPEN, 1, instrument=9998)], symbols={}))
    assert [path.name for path in tmp_path.iterdir()] == ["old.dbn"]
