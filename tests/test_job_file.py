"""What else a job file may say: quantities of people, other files, stages, sweeps; and what contradicts itself."""

import json
import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from rigwise.cli.main import main
from rigwise.cli.plan_job import money
from rigwise.cli.plan_options import PLACES, flag_of, tables_of
from rigwise.errors import InvalidInputError
from rigwise.facts.interruption import InterruptionOverride
from rigwise.units import DAY_S, HOUR_S
from rigwise.workload.job import COMMAND_LINE, Data, Horizon, Job, Quota, StagedJob, Weights
from rigwise.workload.job_file import Outside, job_from_tables, job_from_toml, owned_from_toml, quota_from_toml
from rigwise.workload.job_schema import described, job_schema
from rigwise.workload.job_tables import JobFile, StagedFile
from rigwise.workload.stages import any_job_from_toml

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "src/rigwise/workload/job_example.toml"
HEAD = '[workload]\nmodel = "m"\nsamples = 5\n'
PLAIN = Job(model="m", amount=5.0, unit="samples")


def read(text: str, **files: str) -> Job:
    return job_from_toml(HEAD + text, "job.toml", Outside(text_of=files.__getitem__, money=money))


@pytest.mark.parametrize(
    ("text", "fields_of_job"),
    [
        ('[constraints]\nhourly_cap = "$8/h"\nmax_nodes = "4"\n', {"max_usd_per_h": 8.0, "max_nodes": 4}),
        ('[constraints]\ncountries = ["de", "FR"]\n', {"countries": ("DE", "FR")}),
        (
            '[[constraints.quota]]\nprovider = "AWS"\nmax_count = 8\n',
            {"quota": (Quota(provider="aws", max_count=8),)},
        ),
        (
            '[market]\nbuy = true\nhorizon = "2y"\nhours_per_week = 40\n',
            {"buy": True, "horizon": Horizon(months=24.0, hours_per_week=40.0)},
        ),
        ("[market]\nbuy = true\nhorizon = 6\n", {"buy": True, "horizon": Horizon(months=6.0)}),
        ('[market]\ntax = "19%"\nsetup = "2min"\n', {"tax_frac": 0.19, "setup_s": 120.0}),
        (
            '[market.spot]\nmean_run = "6h"\nsave = 30\n',
            {"spot": True, "interruption": InterruptionOverride(mean_run_s=6 * HOUR_S, save_s=30.0)},
        ),
        (
            '[data]\nsize = "100GB"\nat = "AWS/us-east-1"\nformat = "JPEG"\ndownload = "1Gbit/s"\n'
            'checkpoint = "16GiB"\n',
            {
                "data": Data(size_bytes=100e9, at="aws/us-east-1", format="jpeg", download_bytes_per_s=125e6),
                "checkpoint_bytes": 16 * 2.0**30,
            },
        ),
        ('[data]\ncheckpoint = "1GB"\n', {"checkpoint_bytes": 1e9}),
        ('[objective]\nvalue_of_time = "$30/h"\n', {"value_of_time_usd_per_h": 30.0}),
        (
            '[objective]\nminimize = "weights"\nweights = { time = "$30/h", carbon = "$100/t" }\n',
            {"minimize": "weights", "weights": Weights(cost=1.0, time_usd_per_h=30.0, carbon_usd_per_t=100.0)},
        ),
        ('[objective]\nminimize = "carbon"\nfrontier_energy = true\n', {"minimize": "carbon", "frontier_energy": True}),
    ],
)
def test_quantities_of_people(text, fields_of_job) -> None:
    assert read(text) == replace(PLAIN, **fields_of_job)


def test_a_sweep() -> None:
    job = job_from_toml(HEAD + 'runs = "20"\nparallel_runs = 4\n', "job.toml")
    assert (job.runs, job.parallel_runs) == (20, 4)


def test_money_of_another_currency_names_its_rate() -> None:
    job = read('[constraints]\nbudget = "100 EUR"\n[market]\nrates = { EUR = 1.1 }\n')
    assert job.budget_usd == pytest.approx(110.0)
    assert any("EUR 1 = $1.1000" in sentence for sentence in job.assumed)
    assert read('[constraints]\nbudget = "€100"\n').budget_usd > 0


def test_other_files_are_read_where_the_caller_finds_them() -> None:
    quota = '[[quota]]\nprovider = "gcp"\ndevice = "t4"\nmax_count = 0\n'
    job = read('[constraints]\nquota = "q.toml"\n', **{"q.toml": quota})
    assert job.quota == (Quota(provider="gcp", device="t4", max_count=0),) == quota_from_toml(quota, "q.toml")
    with pytest.raises(InvalidInputError, match=r"q\.toml: the quota of 'gcp' is -1"):
        quota_from_toml(quota.replace("= 0", "= -1"), "q.toml")
    with pytest.raises(InvalidInputError, match=r"q\.toml cannot be read from here"):
        job_from_toml(HEAD + '[constraints]\nquota = "q.toml"\n', "job.toml")


def test_until_a_loss_curve_says_so() -> None:
    rows = "\n".join(f"{n},{2 + 10 * n**-0.5}" for n in (10, 20, 40, 80, 160, 320, 640))
    text = HEAD.replace("samples = 5", 'until = { curve = "c.csv", loss = 2.25 }')
    job = job_from_toml(text, "job.toml", Outside(text_of={"c.csv": f"tokens,loss\n{rows}\n"}.__getitem__))
    assert job.unit == "tokens"
    assert job.amount == pytest.approx(1600, rel=0.02)
    assert "by the loss curve (80 %" in job.assumed[0]


def test_an_owned_machine_and_its_parts() -> None:
    text = (
        '[[owned]]\nname = "box"\ndevice = "t4"\nusd_per_kwh = "$0.30/kWh"\nbase_w = "120W"\nmemory = "64GB"\n'
        'psu = "1kW"\nfree_slots = 1\n'
    )
    (machine,) = owned_from_toml(text, "own.toml")
    assert (machine.usd_per_kwh, machine.base_w, machine.memory_bytes, machine.psu_w) == (0.3, 120.0, 64e9, 1000.0)
    assert machine.free_slots == 1
    with pytest.raises(InvalidInputError, match=r"own\.toml: owned machine 'box': base_w: power '120 apples'"):
        owned_from_toml(text.replace("120W", "120 apples"), "own.toml")
    with pytest.raises(InvalidInputError, match=r"own\.toml: owned machine 'box': psu is -5"):
        owned_from_toml(text.replace("1kW", "-5W"), "own.toml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[constraints]\nbudget = "100 XYZ"\n', ["constraints.budget", "XYZ"]),
        ('[constraints]\nbudget = "-5"\n', ["constraints.budget"]),
        ('[constraints]\nhourly_cap = "$8/week"\n', ["constraints.hourly_cap"]),
        ("[constraints]\nhourly_cap = -1\n", ["constraints.hourly_cap is -1"]),
        ('[constraints]\ncountries = ["Germany"]\n', ["constraints.countries", "'GERMANY'", "two letters"]),
        ("[constraints]\nmax_nodes = 0\n", ["constraints.max_nodes is 0"]),
        ("[constraints]\nmax_nodes = 1.5\n", ["constraints.max_nodes is 1.5", "whole"]),
        ('[[constraints.quota]]\nprovider = "aws"\n', ["max_count is missing"]),
        ("[market]\nhours_per_week = 40\n", ["market.hours_per_week", "horizon"]),
        ('[market]\nhorizon = "24mo"\n', ["market.horizon", "market.buy"]),
        ('[market]\nbuy = true\nhorizon = "24 parsecs"\n', ["market.horizon", "parsecs"]),
        ('[market]\nbuy = true\nhorizon = "24mo"\nhours_per_week = 200\n', ["market.hours_per_week is 200"]),
        ('[market]\ntax = "190%"\n', ["market.tax is 1.9"]),
        ("[market]\nrates = { EUR = 0 }\n", ["market.rates.EUR is 0"]),
        ('[market.spot]\nmean_run = "0s"\n', ["market.spot.mean_run is 0"]),
        ("[market.spot]\nmean_rum = 5\n", ["unknown key", "mean_run"]),
        ('[data]\nat = "s3"\n', ["data.size is missing"]),
        ('[data]\nsize = "100 GBit"\n', ["data.size", "GBit"]),
        ('[objective]\nminimize = "weights"\n', ["objective.weights are missing"]),
        ("[objective]\nweights = { cost = 1 }\n", ["objective.weights are given", "minimizes cost"]),
        ('[objective]\nminimize = "weights"\nweights = { cost = 0 }\n', ["objective.weights are all 0"]),
        ('[objective]\nminimize = "time"\nvalue_of_time = 30\n', ["objective.value_of_time", "time is minimized"]),
        ("[objective]\nvalue_of_time = -30\n", ["objective.value_of_time is -30"]),
    ],
)
def test_what_means_nothing_is_one_line_with_its_key(text, words) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("job.toml: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_more_runs_at_once_than_runs() -> None:
    with pytest.raises(InvalidInputError, match=r"workload\.parallel_runs is 3 of 2 runs"):
        job_from_toml(HEAD + "runs = 2\nparallel_runs = 3\n", "job.toml")
    with pytest.raises(InvalidInputError, match=r"workload\.rate belongs to serving"):
        job_from_toml(HEAD + 'rate = "20/s"\n', "job.toml")


# Stages

STAGES = """
[[stage]]
name = "first"
model = "m"
tokens = 10
[stage.data]
checkpoint = "1GB"
[stage.constraints]
max_nodes = 1
[[stage]]
model = "m"
tokens = 20
stay = true
[constraints]
deadline = "1d"
budget = "$50"
hourly_cap = 8
[market]
spot = true
[objective]
minimize = "time"
"""


def test_stages_have_what_they_do_not_say_from_the_whole() -> None:
    job = any_job_from_toml(STAGES, "job.toml")
    assert isinstance(job, StagedJob)
    assert (job.deadline_s, job.budget_usd, job.minimize) == (DAY_S, 50.0, "time")
    first, second = job.stages
    assert (first.name, second.name, first.stay, second.stay) == ("first", "stage 2", False, True)
    assert (first.job.max_nodes, second.job.max_nodes) == (1, None)
    assert first.job.checkpoint_bytes == 1e9
    for stage in job.stages:
        assert (stage.job.deadline_s, stage.job.budget_usd) == (None, None)
        assert (stage.job.max_usd_per_h, stage.job.spot, stage.job.minimize) == (8.0, True, "time")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("stay = true", 'name = "first"', ["two stages are called 'first'"]),
        ('name = "first"', 'name = "first"\nstay = true', ["'first' is the first"]),
        ("tokens = 20", "tokens = -20", ["stage 'stage 2'", "workload.tokens is -20"]),
        ("tokens = 20", "tokns = 20", ["unknown key 'stage.1.tokns'", "tokens"]),
        ("[objective]", '[workload]\nmodel = "m"\n[objective]', ["both [workload] and [[stage]]"]),
        ("max_nodes = 1", "max_nodes = 0", ["stage 'first'", "constraints.max_nodes is 0"]),
    ],
)
def test_a_fault_in_a_stage_names_it(old, new, words) -> None:
    with pytest.raises(InvalidInputError) as caught:
        any_job_from_toml(STAGES.replace(old, new, 1), "job.toml")
    for word in words:
        assert word in str(caught.value)


# The same from flags, the example and the schema


def test_every_flag_stands_for_a_key_of_the_file() -> None:
    tables = {
        name: next(part for part in (hint, *get_args(hint)) if is_dataclass(part))
        for name, hint in get_type_hints(JobFile).items()
    }
    for flag, (table, key, *_) in PLACES.items():
        assert key in {field.name for field in fields(tables[table])}, flag_of(flag)


def test_flags_say_what_a_file_says() -> None:
    given = {
        "samples": "5",
        "hourly_cap": "$8",
        "countries": ("de",),
        "weights": ("time=$30/h", "energy=$0.30/kWh"),
        "rates": ("EUR=1.08",),
        "data_size": "100GB",
        "checkpoint": "1GB",
    }
    job = job_from_tables(tables_of("m", given), COMMAND_LINE)
    assert job == replace(
        PLAIN,
        max_usd_per_h=8.0,
        countries=("DE",),
        minimize="weights",
        weights=Weights(time_usd_per_h=30.0, energy_usd_per_kwh=0.3),
        data=Data(size_bytes=100e9),
        checkpoint_bytes=1e9,
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"weights": ("time",)}, ["--weight is 'time'"]),
        ({"weights": ("fun=1",)}, ["--weight is 'fun=1'", "carbon"]),
        ({"loss_curve": "c.csv"}, ["--until-loss and --loss-curve go together"]),
        ({"weights": ("time=1", "time=2")}, ["--weight is 'time=2'"]),
        ({"rates": ("EUR=lots",)}, ["--exchange", "'lots'"]),
        ({"data_at": "s3"}, ["--data-size is missing"]),
        ({"hours_per_week": "5"}, ["--hours-per-week"]),
        ({"weights": ("time=soon",)}, ["--weight time"]),
    ],
)
def test_a_fault_names_the_flag(given, words) -> None:
    with pytest.raises(InvalidInputError) as caught:
        job_from_tables(tables_of("m", {"samples": "5", **given}), COMMAND_LINE)
    for word in words:
        assert word in str(caught.value)


def test_the_example_explains_every_key() -> None:
    text = EXAMPLE.read_text()
    job = any_job_from_toml(text, "job.toml")
    assert isinstance(job, Job)
    assert job.max_price_age_s == PLAIN.max_price_age_s  # what is usual, and not what keeps old prices
    for kind in tables_below(StagedFile) | tables_below(JobFile):
        for field in fields(kind):
            assert f"{field.name} = " in text or f".{field.name}]" in text or f"[{field.name}]" in text, field.name


def test_init_prints_the_example_or_writes_it_once(capfd, tmp_path) -> None:
    file = tmp_path / "job.toml"
    for arguments, code, words in (
        ([], 0, ""),
        ([str(file)], 0, "wrote"),
        ([str(file)], 2, "exists already"),
        (["model"], 2, ".toml"),
        ([str(file), "--spot"], 2, "no flags"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["plan", "--init", *arguments])
        out, err = capfd.readouterr()
        assert stop.value.code == code
        assert words in err
        assert out == ("" if arguments else EXAMPLE.read_text())
    assert file.read_text() == EXAMPLE.read_text()


def test_what_the_example_shows_behind_comments_can_be_read() -> None:
    """Each commented key, put in force alone, is a key that exists."""
    lines = EXAMPLE.read_text().splitlines()
    shown = [i for i, line in enumerate(lines) if line.startswith("# ") and " = " in line.partition("#")[2][:20]]
    assert len(shown) > 30
    for i in shown:
        tomllib.loads(lines[i].removeprefix("# "))


def tables_below(kind, found=None):
    found = set() if found is None else found
    if is_dataclass(kind):
        found.add(kind)
        hints = get_type_hints(kind).values()
    else:
        hints = get_args(kind)
    for hint in hints:
        if hint not in found:
            tables_below(hint, found)
    return found


def test_the_schema_is_current() -> None:
    kept = json.loads((ROOT / "docs/reference/job.schema.json").read_text())
    assert kept == json.loads(json.dumps(job_schema())), "run python tools/build_job_schema.py"


def test_the_schema_takes_what_is_read_and_nothing_else() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(job_schema())
    jsonschema.Draft202012Validator.check_schema(job_schema())
    for text in (EXAMPLE.read_text(), STAGES, *(p.read_text() for p in sorted((ROOT / "examples").glob("*.toml")))):
        tables = tomllib.loads(text)
        if "workload" in tables or "stage" in tables:
            assert check.is_valid(tables)
    for text in ('[workload]\nmodel = "m"\nsampels = 5\n', "[workload]\nsamples = 5\n", HEAD + 'task = "trian"\n'):
        assert not check.is_valid(tomllib.loads(text))


def test_every_key_is_described() -> None:
    for kind in tables_below(StagedFile) | tables_below(JobFile):
        said = described(kind)
        assert [field.name for field in fields(kind) if not said.get(field.name)] == []
