"""The files of `compose.yaml`: no container runs here, so what can be compared without one is."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from dashboards.boards import ALERTS, DASHBOARD, EXAMPLES, yaml_of
from dashboards.prometheus import promtool, require_prometheus
from real.processes import Process
from support import unused_port
from vetted_mw import load_configuration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = EXAMPLES / "tracing"
COMPOSE = yaml_of(FOLDER / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COLLECTOR = yaml_of(FOLDER / "collector.yaml")
PROMETHEUS = yaml_of(FOLDER / "prometheus.yml")
OWN_IMAGE = "vetted-mw-tracing"
DEFAULT_PORTS = {"http": 80, "https": 443}
SERVED_PORTS = {"jaeger": {4318, 16686}, "prometheus": {9090}, "grafana": {3000}}
"""Ports of programs that are not configured here, as their documentation has them."""


def mounts(service: str) -> dict[str, Path]:
    """Return the files a container sees: place in it -> file of the repository."""
    found = {}
    for volume in SERVICES[service].get("volumes", ()):
        source, target, mode = volume.split(":")
        assert mode == "ro"
        found[target] = (FOLDER / source).resolve()
    return found


def urls(text: str) -> Iterator[tuple[str, int]]:
    """Yield host and port of each http URL of a text."""
    for found in re.findall(r"https?://[\w.:-]+", text):
        parts = urlsplit(found)
        yield parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]


def offered() -> dict[str, set[int]]:
    """Return the ports each service listens on, as its own settings here say."""
    receiver = COLLECTOR["receivers"]["otlp"]["protocols"]
    endpoints = [*(one["endpoint"] for one in receiver.values()), COLLECTOR["exporters"]["prometheus"]["endpoint"]]
    configuration = load_configuration(FOLDER / "vetted.toml", environ={})
    return SERVED_PORTS | {
        "collector": {int(endpoint.rpartition(":")[2]) for endpoint in endpoints},
        "gateway": {configuration.server.port},
        "models": {*models().PORTS.values(), models().GRID_PORT},
    }


def models() -> Any:
    """Return the stand-ins' module."""
    specification = importlib.util.spec_from_file_location("tracing_models", FOLDER / "models.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_mounted_exists(service: str) -> None:
    """Every file a container is given is in the repository: Docker would make a folder of a missing one."""
    assert [str(path) for path in mounts(service).values() if not path.is_file()] == []


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned_and_ports_stay_on_this_machine(service: str) -> None:
    """The stack of today is the stack of next year, and nobody else can reach it."""
    image = SERVICES[service]["image"]
    assert image == OWN_IMAGE or re.fullmatch(r"[a-z./-]+:v?\d+\.\d+\.\d+", image)
    for published in SERVICES[service].get("ports", ()):
        host, outer, inner = published.split(":")
        assert (host, outer) == ("127.0.0.1", inner)
        assert int(inner) in offered()[service]


@pytest.mark.parametrize("service", SERVICES)
def test_dependencies_are_services(service: str) -> None:
    """Nothing waits for what is not there."""
    assert set(SERVICES[service].get("depends_on", ())) <= set(SERVICES)


@pytest.mark.parametrize("file", ["vetted.toml", "collector.yaml", "grafana/datasources.yaml", "compose.yaml"], ids=str)
def test_every_url_leads_to_a_service_that_listens_there(file: str) -> None:
    """Hosts and ports of each settings file are those of the compose file and of the other settings."""
    ports = offered()
    assert [(host, port) for host, port in urls((FOLDER / file).read_text("utf-8")) if port not in ports[host]] == []


@pytest.mark.parametrize("service", SERVICES)
def test_settings_named_on_a_command_line_are_mounted_there(service: str) -> None:
    """A program is pointed at a file that is really in its container."""
    words = " ".join(SERVICES[service].get("command", ())).replace("=", " ").split()
    named = {word for word in words if word.startswith("/")}
    assert named <= set(mounts(service))


def test_grafana_finds_data_sources_and_dashboard() -> None:
    """Both are provisioned: Prometheus as the default, and the dashboard of this repository in the provider's folder."""
    mounted = mounts("grafana")
    (provider,) = yaml_of(mounted["/etc/grafana/provisioning/dashboards/vetted-mw.yaml"])["providers"]
    place = f"{provider['options']['path']}/{DASHBOARD.name}"
    assert mounted[place] == DASHBOARD
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == place
    sources = yaml_of(mounted["/etc/grafana/provisioning/datasources/vetted-mw.yaml"])["datasources"]
    assert [source["type"] for source in sources if source.get("isDefault")] == ["prometheus"]
    (prometheus,) = [source for source in sources if source["type"] == "prometheus"]
    assert prometheus["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]
    targets = {one["datasourceUid"] for one in prometheus["jsonData"]["exemplarTraceIdDestinations"]}
    assert targets == {source["uid"] for source in sources if source["type"] == "jaeger"}


def test_prometheus_takes_its_settings_and_scrapes_the_collector(tmp_path: Path) -> None:
    """`promtool check config` accepts them with the rules beside them, as they are mounted."""
    require_prometheus()
    mounted = mounts("prometheus")
    assert mounted["/etc/prometheus/alerts.yml"] == ALERTS
    for place, path in mounted.items():
        shutil.copy(path, tmp_path / Path(place).name)
    checked = promtool("check", "config", tmp_path / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["honor_labels"] is True
    for target in job["static_configs"][0]["targets"]:
        host, _, port = target.partition(":")
        assert int(port) in offered()[host]


def test_pipelines_use_what_is_configured() -> None:
    """Every receiver, processor and exporter of a pipeline has its settings, and none is left unused."""
    pipelines = COLLECTOR["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics"}
    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines.values() for name in pipeline[kind]} == set(COLLECTOR[kind])


def test_the_gateway_serves_the_regions_of_the_stand_ins() -> None:
    """Each region's base URL is the stand-in's port of that region, and the settings are accepted."""
    configuration = load_configuration(FOLDER / "vetted.toml", environ={})
    ports = {code: urlsplit(upstream.base_url).port for code, upstream in configuration.upstreams.items()}
    assert ports == models().PORTS


class StandIns(Process):
    """`models.py` on ports of its own."""

    def __init__(self, log: Path, ports: Mapping[str, int], grid_port: int) -> None:
        super().__init__(log, next(iter(ports.values())))
        self._ports = dict(ports)
        self._grid_port = grid_port

    def command(self) -> list[str]:
        """Run its `main` as the container does."""
        change = f"models.PORTS, models.GRID_PORT = {self._ports!r}, {self._grid_port}"
        return [sys.executable, "-c", f"import models; {change}; models.main()"]

    def environment(self) -> dict[str, str]:
        """With its folder to import from."""
        return super().environment() | {"PYTHONPATH": str(FOLDER)}


def test_the_stand_ins_answer(tmp_path: Path) -> None:
    """Every region's server has the demo's model, and the grid service both keyless sources of the settings."""
    grid_port = unused_port()
    ports = {code: unused_port() for code in models().PORTS}
    with StandIns(tmp_path / "log", ports, grid_port), httpx.Client(trust_env=False, timeout=60) as client:
        for port in ports.values():
            assert client.get(f"http://127.0.0.1:{port}/v1/models").json()["data"][0]["id"] == "demo-8b"
        grid = f"http://127.0.0.1:{grid_port}"
        assert client.get(f"{grid}/energy_charts/co2eq", params={"country": "fr"}).status_code == 200
        assert client.get(f"{grid}/landsnet/generation/api/Values").status_code == 200


def test_the_image_is_built_of_what_is_there() -> None:
    """Each COPY names something of the clone that the ignore file lets in, and the extras are those of the package."""
    root = (FOLDER / SERVICES["gateway"]["build"]["context"]).resolve()
    text = (root / SERVICES["gateway"]["build"]["dockerfile"]).read_text("utf-8")
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert [word for word in copied if not (root / word).exists() or f"!{word}" not in ignored] == []
    (extras,) = re.findall(r"\.\[([a-z,]+)\]", text)
    project = (root / "pyproject.toml").read_text("utf-8")
    assert [extra for extra in extras.split(",") if not re.search(rf"^{extra} = \[", project, re.MULTILINE)] == []
