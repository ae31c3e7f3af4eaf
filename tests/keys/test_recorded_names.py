"""Keys match those of the connector: its recorded names and file names, and the intended differences."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.keys import KeyTemplate, sanitize_name
from s3dest_dagster.stream import Scope, StreamId

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases"
GOLDEN = CASES / "derived" / "names_and_file_names.tsv"
NOW = datetime.fromtimestamp(1622135805, UTC)
UPLOADED = NOW.replace(microsecond=123_000)
PREFIX = "bp/ns/s/2021_05_27_1622135805000_"

REFUSED = {
    "{date:HH:mm}": "the connector drops ':mm' without a word",
    "{foo:-bar}": "the default of an unknown variable, an accident of the connector's template library",
    "{{date}}": "stays literally in the connector's keys",
    "{Date}": "stays literally in the connector's keys",
}
BETTERED = {"{timestamp:micros}": PREFIX + "1622135805123000"}
"""The documentation promises this value. The connector leaves the placeholder in the key."""


def rows(kind: str) -> list[tuple[str, str]]:
    """The recorded inputs and outputs of one kind, or none if the recordings are not available."""
    if not GOLDEN.exists():
        return []
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()[1:]
    return [(cells[1], cells[2]) for cells in (line.split("\t") for line in lines) if cells[0] == kind]


pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="the connector's recorded names are not at hand")


def test_all_recordings_are_read():
    assert (len(rows("NAME")), len(rows("FILE"))) == (10, 15)
    assert {pattern for pattern, _ in rows("FILE")} >= REFUSED.keys() | BETTERED.keys()


@pytest.mark.parametrize(("name", "in_keys"), rows("NAME"))
def test_names(name, in_keys):
    assert sanitize_name(name) == in_keys


@pytest.mark.parametrize(("pattern", "key"), [row for row in rows("FILE") if row[0] not in REFUSED])
def test_file_names(pattern, key):
    template = KeyTemplate("bp", "${NAMESPACE}/${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_", pattern)
    scope = Scope(StreamId("ns", "s"))
    keys = template.bind(scope, now=NOW, uuid="3f0c9a52-7e4d-4b7c-9d8e-0a1b2c3d4e5f", sync_id="42")
    assert keys.key(3, ".csv.gz", uploaded_at=UPLOADED) == BETTERED.get(pattern, key)
    assert template.matcher(scope.stream).fullmatch(BETTERED.get(pattern, key))


@pytest.mark.parametrize("pattern", REFUSED)
def test_accidental_results_of_the_connector_are_refused(pattern):
    with pytest.raises(TemplateError):
        KeyTemplate("bp", "${NAMESPACE}/${STREAM_NAME}/", pattern)


def test_namespaces_of_the_acceptance_tests():
    """Names that begin with a digit keep it. The connector's own transformer for keys has no such rule."""
    cases = json.loads((CASES / "acceptance" / "namespace_test_cases.json").read_text(encoding="utf-8"))
    enabled = {case["namespace"]: case["normalized"] for case in cases if case["enabled"]}
    assert enabled.pop("99namespace") == "_99namespace"
    assert enabled
    for namespace, normalized in enabled.items():
        assert sanitize_name(namespace) == normalized


def test_streams_of_the_edge_case_catalogue_have_different_keys():
    catalog = json.loads((CASES / "acceptance" / "edge_case_catalog.json").read_text(encoding="utf-8"))
    streams = [StreamId(None, stream["name"]) for stream in catalog["streams"]]
    assert StreamId(None, "stream-with:spécial:character_names") in streams
    for path_format in ("${NAMESPACE}/${STREAM_NAME}/${EPOCH}_", "${STREAM_NAME}_${EPOCH}_", "${YEAR}/${STREAM_NAME}_"):
        KeyTemplate("bp", path_format).check_streams(streams)
