"""Too large, simulated, and files that are kept for repair."""

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


def test_only_files_with_rejected_records_stay_in_the_spool(market, redis_server, tmp_path):
    service = Ingestion(settings_for(market, redis_server, tmp_path))
    with service.working():
        service.imported(dbn_file(Schema.TRADES, [trade(OPEN, 1)], symbols={"STAYS": 1}))
        run = service.imported(dbn_file(Schema.TRADES, [trade(OPEN, 1, instrument=9999)], symbols={}))
    assert [path.name for path in tmp_path.iterdir()] == [f"{run['id']}.dbn"]
