"""The figures an operator watches: exported by real processes, right, and the ones that rules and panels ask for."""

import base64
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from airweave_server.api.metrics import CONNECTIONS
from running import Running, Server, TemporalServer, Worker, free_port
from servers.scripted_server import ScriptedServer, items

ROOT = Path(__file__).parents[1]
WORD = re.compile(r"\b((?:airweave|temporal)_[a-z_]+)\b")
TOKEN = {"Authorization": "Bearer hush-hush-metrics"}


class Scraped:
    """One page of metrics, by name and labels."""

    def __init__(self, text: str) -> None:
        self.families: list[Metric] = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that bear these labels."""
        found = [one for one in self.samples if one.name == name and labels.items() <= one.labels.items()]
        assert found, f"no {name} with {labels}; there are {sorted(self.names())}"
        return sum(one.value for one in found)

    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}


def scrape(url: str, **more: Any) -> Scraped:
    answer = httpx.get(f"{url}/metrics", timeout=10, **more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return Scraped(answer.text)


@pytest.fixture(scope="module")
def running(running: Running, temporal_server: TemporalServer) -> Iterator[Running]:
    """On Temporal: its SDK measures too."""
    running.temporal = temporal_server
    yield running
    running.temporal = None


@pytest.fixture(scope="module")
def worker_url() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def worker(running: Running, worker_url: str) -> Worker:
    return running.ready_worker(METRICS_PORT=worker_url.rsplit(":", 1)[1])


@pytest.fixture(scope="module")
def server(running: Running, worker: Worker) -> Server:
    return running.start(worker=False)


@pytest.fixture(scope="module")
def pages(server: Server, worker_url: str) -> tuple[Scraped, Scraped]:
    """What API and worker export after one sync that worked, one that failed, and a search."""
    with ScriptedServer() as source:
        encoded = base64.b64encode(random.Random(0).randbytes(600)).decode()
        source.partitions["a"] = [*items(29), {"id": "encoded", "text": f"words {encoded} words", "version": "1"}]
        collection = server.collection()
        connection = server.connect_to(source, collection=collection)
        done = server.sync(connection)
        assert (done["status"], done["engine"]) == ("completed", "temporal")
        source.partitions["a"] = items(10, version="2") + items(5, start=10)
        assert server.sync(connection)["held_deletes"] == 15
        assert server.found(collection, "number3")
        source.token = "another"
        broken = server.connect_to(source)
        assert server.sync(broken)["status"] == "failed"
        source.token = None
        source.latency_s = 30
        server.run(server.connect_to(source))
        server.wait_for(lambda: server.get("/health")["workers"], lambda seen: seen == 1)
        return scrape(server.url), scrape(worker_url)


def test_they_say_what_happened(pages: tuple[Scraped, Scraped]) -> None:
    api, worker = pages
    assert worker.value("airweave_entities_total", source="scripted", outcome="inserted") == 30
    assert worker.value("airweave_entities_total", source="scripted", outcome="updated") == 10
    assert worker.value("airweave_entities_total", source="scripted", outcome="kept") == 5
    assert worker.value("airweave_left_out_total", source="scripted", what="encoded") == 1
    assert worker.value("airweave_batch_seconds_count", source="scripted") >= 2
    assert worker.value("airweave_slice_seconds_count", source="scripted") >= 2
    assert worker.value("airweave_job_start_seconds_count", engine="temporal") >= 3
    assert worker.value("airweave_jobs_ended_total", status="completed", engine="temporal", source="scripted") == 2
    assert worker.value("airweave_jobs_ended_total", status="failed") == 1
    assert worker.value("temporal_activity_schedule_to_start_latency_count") >= 6
    assert worker.value("temporal_num_pollers") >= 1
    assert api.value("airweave_database_up") == 1
    assert api.value("airweave_workers") == 1
    assert api.value("airweave_keeper_up") == 1
    assert api.value("airweave_jobs", engine="temporal", source="scripted") == 1
    assert api.value("airweave_held_deletes", source="scripted") == 15
    assert api.value("airweave_connection_failing", source="scripted") == 1
    assert api.value("airweave_http_request_seconds_count", method="POST", status="200") >= 4
    assert any(sample.labels.get("route", "").endswith("search/instant") for sample in api.samples)
    whole = [one for one in api.samples if one.name == "airweave_last_full_timestamp_seconds"]
    assert len(whole) == 1
    assert whole[0].value > 1.7e9


def test_the_page_does_not_grow_with_the_connections(apart: Running) -> None:
    server = apart.start(worker=False)
    collection = server.collection()
    body = {"authentication": {"credentials": {"stub_key": "k"}}}
    made = [server.connect(collection, "stub", {"entity_count": 1}, **body) for _ in range(CONNECTIONS + 5)]
    page = scrape(server.url)
    assert page.value("airweave_connections", source="stub") == len(made)
    assert page.value("airweave_connections_failing", source="stub") == 0
    shown = {one.labels["connection"] for one in page.samples if "connection" in one.labels}
    assert len(shown) == CONNECTIONS
    assert shown < set(made)


def test_no_path_and_no_secret_is_in_them(pages: tuple[Scraped, Scraped]) -> None:
    for page in pages:
        for sample in page.samples:
            assert "hush" not in str(sample)
            assert not any(re.search(r"[0-9a-f]{8}-", value) for key, value in sample.labels.items() if key == "route")


@pytest.mark.parametrize("file", ["deploy/prometheus-alerts.yml", "deploy/grafana-dashboard.json", "docs/metrics.md"])
def test_what_is_asked_for_is_exported(pages: tuple[Scraped, Scraped], file: str) -> None:
    text = (ROOT / file).read_text()
    exported = pages[0].names() | pages[1].names()
    exported |= {name.removesuffix(end) for name in exported for end in ("_bucket", "_count", "_sum", "_total")}
    asked = set(WORD.findall(text))
    assert len(asked) >= 10
    assert asked <= exported, f"not exported: {sorted(asked - exported)}"


def test_every_metric_of_ours_is_described(pages: tuple[Scraped, Scraped]) -> None:
    described = set(WORD.findall((ROOT / "docs/metrics.md").read_text()))
    ours = {family.name for page in pages for family in page.families if family.name.startswith("airweave_")}
    missing = {name for name in ours if not {name, f"{name}_total"} & described}
    assert not missing, f"docs/metrics.md says nothing of {sorted(missing)}"


def test_rules_and_panels_are_whole() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus-alerts.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(rule["expr"] and rule["annotations"]["summary"] and rule["annotations"]["do"] for rule in rules)
    board = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    places = [tuple(panel["gridPos"][key] for key in ("x", "y")) for panel in board["panels"]]
    assert len(set(places)) == len(places)


def test_the_worker_says_whether_it_polls(worker: Worker, worker_url: str, server: Server) -> None:
    answer = httpx.get(f"{worker_url}/health")
    assert (answer.status_code, answer.text) == (200, "polling\n")
    assert httpx.get(f"{worker_url}/else").status_code == 404


def test_a_worker_without_temporal_says_so(running: Running, scratch: Path) -> None:
    lonely = TemporalServer(scratch / "temporal-of-a-lonely-worker")
    port = free_port()
    url = f"http://127.0.0.1:{port}/health"
    worker = running.ready_worker(METRICS_PORT=str(port), TEMPORAL_PORT=str(lonely.port))
    assert httpx.get(url).status_code == 200
    lonely.stop()
    answer = httpx.get(url, timeout=10)
    assert answer.status_code == 503
    assert "Temporal cannot be reached" in answer.text
    worker.kill()


def test_with_authentication_they_need_a_token_of_their_own(running: Running, server: Server) -> None:
    shut = running.start(worker=False, AUTH_ENABLED="true")
    answer = shut.http.get("/metrics")
    assert answer.status_code == 401
    assert "METRICS_TOKEN" in answer.json()["detail"]
    guarded = running.start(worker=False, AUTH_ENABLED="true", METRICS_TOKEN="hush-hush-metrics")
    for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": "Basic hush-hush-metrics"}):
        assert guarded.http.get("/metrics", headers=headers).status_code == 401
    assert scrape(guarded.url, headers=TOKEN).value("airweave_database_up") == 1
    port = free_port()
    worker = running.ready_worker(METRICS_PORT=str(port), METRICS_TOKEN="hush-hush-metrics")
    assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 401
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    scrape(f"http://127.0.0.1:{port}", headers=TOKEN)
    worker.terminate()


def test_a_worker_shows_nothing_to_other_machines_without_a_token(running: Running) -> None:
    said = running.command("worker", METRICS_PORT=str(free_port()), METRICS_HOST="0.0.0.0")
    assert said.returncode == 1
    assert "METRICS_TOKEN" in said.stderr


def test_a_taken_port_is_said(running: Running, worker: Worker, worker_url: str) -> None:
    said = running.command("worker", METRICS_PORT=worker_url.rsplit(":", 1)[1])
    assert said.returncode == 1
    assert "METRICS_PORT" in said.stderr
