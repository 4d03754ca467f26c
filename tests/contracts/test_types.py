"""Values are frozen, and a float says its unit in its name."""

import ast
import re

import pytest

UNITS = "bytes_per_s|flops_per_s|per_s|usd_per_h|usd_h|bytes|flops|macs|elements|hz|usd|frac|s|w|j|kg|m3|m"
FLOATS = re.compile(r"(float|Mapping\[str, float\])( \| None)?")
OF_WHAT = "each_way|both_ways|per_unit|per_sample|by_format"
HAS_UNIT = re.compile(rf"(^|_)({UNITS})(_({OF_WHAT}))?$")

#: Fields without an SI unit in the name, each with the reason.
WITHOUT_UNIT = {
    "fp32_flop_per_cycle_per_core": "the unit is spelled out",
    "amx_bf16_flop_per_cycle_per_core": "the unit is spelled out",
    "efficiency_fp32_flop_per_cycle_per_core": "the unit is spelled out",
    "inter_node_gbps": "gigabits per second, as networks are sold; part of the published case format",
    "pcie_generation": "a version number",
    "slots": "a count that may be a half",
    "accel_count": "a count that a source may give as a fraction",
    "vcpus": "a count that may be a fraction",
    "fit_probability": "a probability",
    "p_best": "a probability",
    "p_ahead": "a probability",
    "at": "in the unit that the change beside it names",
    "now": "in the unit that the change beside it names",
    "limits_probability": "a probability",
    "sequences": "a mean count",
    "confidence": "a probability",
    "binds": "fractions of the time, as the published result names them",
    "mfu": "a fraction, and the field's own name",
    "p10": "a quantile of whatever the field that holds it names",
    "p50": "a quantile of whatever the field that holds it names",
    "p90": "a quantile of whatever the field that holds it names",
    "best": "in the unit of the objective",
    "lower_bound": "in the unit of the objective",
    "number": "in the unit of the objective",
    "bound": "in the unit of the objective",
    "relaxed": "in the unit of the objective",
    "spread": "a standard deviation of the logarithm of a time",
    "label_spread": "a standard deviation of the logarithm of a size of memory",
    "year": "a date",
    "usd_per_million_tokens": "the unit is spelled out",
    "memory_terms": "bytes, as the published result names them",
    "cost_terms": "dollars, as the published result names them",
    "amount": "a count of what the job names: tokens, samples, steps",
    "dataset_size": "a count of samples",
    "launches": "a count",
    "tensors": "a count",
    "batch_mean": "a count of items",
    "queue_mean": "a count of items",
    "rates": "items for one item of the first source",
    "bursts": "items that come together",
    "value": "in the unit that the metric beside it names",
    "width": "a ratio of two times",
    "interval_score": "of a logarithm of time",
    "residual": "a difference of logarithms of times",
    "log_ratio": "a difference of logarithms of times",
    "spread_left": "a standard deviation of the logarithm of a time",
    "dispersion": "a ratio of standard deviations",
    "prior": "quantiles of a ratio of times",
    "factor": "quantiles of a ratio of times",
    "usd_per_kwh": "the unit is spelled out",
    "energy_usd_per_kwh": "the unit is spelled out",
    "carbon_usd_per_t": "the unit is spelled out",
    "ops_usd_per_month": "the unit is spelled out",
    "g_per_kwh": "the unit is spelled out",
    "price_per_kwh": "an amount of the currency beside it, for a kilowatt-hour",
    "pue": "a ratio of two powers, and the field's own name",
    "ratio": "a ratio of two powers",
    "low": "in the unit beside it",
    "high": "in the unit beside it",
    "measured": "in the unit beside it",
    "months": "months of a calendar, as a horizon is named",
    "hours_per_week": "the unit is spelled out",
    "cost": "dollars for a dollar",
    "p": "a probability",
    "z": "a count of standard deviations",
    "weights": "fractions that sum to one, as the published answer names them",
    "mean_over_median": "a ratio of two times",
    "cores": "CPU seconds in a second",
    "samples": "a count of samples",
    "samples_per_step": "a count of samples",
    "units_per_h": "the unit is spelled out: a provider's own units of use",
    "units_per_month": "the unit is spelled out",
    "usd_per_unit": "the unit is spelled out",
    "usd_per_month": "the unit is spelled out",
    "carbon_g": "grams, as carbon intensities are given",
    "egress_usd_per_gb": "the unit is spelled out",
    "disk_usd_per_gb_month": "the unit is spelled out",
    "idle_disk_usd_per_gb_month": "the unit is spelled out",
    "x": "in the unit of its axis",
    "y": "in the unit of its axis",
    "values": "counts of events, times in seconds, by the name of what was counted",
}

#: Dataclasses that are filled in while a model is being traced, and are read by nobody else.
MUTABLE = {
    "graph/capture/from_torch/assemble.py: _Capture",
    "graph/capture/from_torch/canonical.py: Call",
    "graph/capture/from_onnx/value.py: Value",
    "graph/passes/backward.py: _Building",
    "graph/passes/derivatives.py: Derivative",
}

#: Rows of data files are spelled as people write them (MHz, GiB, TFLOP/s), the unit in the name all the same.
AS_IN_DATA_FILES = "facts/rows.py"


def dataclass_decorator(node: ast.ClassDef) -> ast.expr | None:
    for decorator in node.decorator_list:
        name = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(name).rpartition(".")[2] == "dataclass":
            return decorator
    return None


def is_frozen(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and any(
        keyword.arg == "frozen" and ast.unparse(keyword.value) == "True" for keyword in decorator.keywords
    )


def float_fields(node: ast.ClassDef) -> list[str]:
    """Names of the fields that hold one float, or a mapping to floats."""
    fields = [line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)]
    return [line.target.id for line in fields if FLOATS.fullmatch(ast.unparse(line.annotation))]


def test_every_dataclass_is_frozen(modules) -> None:
    thawed = [
        f"{module.path}: {node.name}"
        for module in modules
        for node in module.classes()
        if (decorator := dataclass_decorator(node)) is not None and not is_frozen(decorator)
    ]
    assert set(thawed) == MUTABLE


def test_every_float_field_names_its_unit(modules) -> None:
    silent = [
        name
        for module in modules
        if module.path != AS_IN_DATA_FILES
        for node in module.classes()
        if dataclass_decorator(node) is not None
        for name in float_fields(node)
        if not HAS_UNIT.search(name)
    ]
    assert sorted(set(silent) - set(WITHOUT_UNIT)) == []


def test_the_exceptions_are_still_needed(modules) -> None:
    known = {name for module in modules for node in module.classes() for name in float_fields(node)}
    assert sorted(set(WITHOUT_UNIT) - known) == []


@pytest.mark.parametrize(
    ("code", "frozen", "floats"),
    [
        ("@dataclass\nclass A:\n  x: float", False, ["x"]),
        ("@dataclass(frozen=True)\nclass A:\n  x_s: float | None\n  n: int", True, ["x_s"]),
    ],
)
def test_the_checks_see_a_fault(code: str, frozen: bool, floats: list[str]) -> None:
    node = ast.parse(code).body[0]
    assert is_frozen(dataclass_decorator(node)) == frozen
    assert float_fields(node) == floats
    assert bool(HAS_UNIT.search(floats[0])) == frozen
