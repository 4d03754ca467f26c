"""LoRA and QLoRA from the flag to the plan: adapters need less memory, and 4-bit weights less again."""

import json

import pytest

from rigwise.cli.main import main
from rigwise.estimate.fleet import estimate_fleet, least_memory_bytes
from rigwise.facts.catalogue import device
from rigwise.graph.load import load_model
from rigwise.machine.machine import Machine
from rigwise.workload.choices import settle
from rigwise.workload.job import Job
from rigwise.workload.lower import Recipe

METHODS = ("full", "lora", "qlora")


@pytest.fixture
def plan(capfd):
    """Plan a fine-tune of a language model in this process: the JSON document."""

    def run(*arguments):
        market = ["--device", "rtx-4090", "--device", "h100-sxm5-80gb", "--max-price-age", "20000d"]
        with pytest.raises(SystemExit):
            main(["plan", "gpt2", "--tokens", "2M", "--seq", "512", "--batch", "8", *market, "--json", *arguments])
        return json.loads(capfd.readouterr()[0])

    return run


def estimates(method):
    """Memory of a step of Llama 3.1 8B and its lower bound on one large device."""
    model = load_model("llama-3.1-8b")
    job = Job(model="llama-3.1-8b", amount=10, unit="steps", batch=1, seq=512, method=method)
    task = settle(job, model)
    recipe = Recipe(dtype="bf16", layout="nchw", mode="eager", micro_batch=1, recompute="none", zero=0)
    machine = Machine(device=device("b200"), count=1)
    fleet = estimate_fleet(task.case, recipe, [machine], model)
    return fleet, least_memory_bytes(task.case, "bf16", 1, model)


def test_each_method_needs_less_memory_than_the_one_before() -> None:
    memory = {method: float(estimates(method)[0].memory_p50_bytes[0]) for method in METHODS}
    assert memory["full"] > memory["lora"] > memory["qlora"]
    assert memory["full"] - memory["lora"] > 3 * 2 * 8e9, "gradients and two moments of 8 G weights in 2 bytes"


def test_no_method_undercuts_its_bound_of_memory() -> None:
    for method in METHODS:
        fleet, least_bytes = estimates(method)
        assert least_bytes <= fleet.memory_p50_bytes[0]
    assert estimates("lora")[1] < estimates("full")[1]


@pytest.mark.parametrize("method", METHODS)
def test_the_flag_reaches_the_plan(method, plan) -> None:
    answer = plan("--method", method)
    assert answer["job"]["method"] == method
    assert answer["plans"]


def test_gradients_of_the_weights_are_not_computed_for_adapters() -> None:
    """Forward and the gradients of activations are two thirds of a full step; reading 4-bit weights adds to it."""
    full, lora, qlora = (float(estimates(method)[0].step_p50_s[0]) for method in METHODS)
    assert 0.5 * full < lora < full
    assert lora < qlora


def test_the_rank_of_the_adapters_counts() -> None:
    model = load_model("gpt2")
    case = Job(model="gpt2", amount=1, unit="steps", batch=1, seq=128, method="lora")
    small, large = (
        least_memory_bytes(settle(Job(**{**as_fields(case), "lora_rank": rank}), model).case, "fp32", 1, model)
        for rank in (4, 256)
    )
    assert small < large


def as_fields(job):
    return {name: getattr(job, name) for name in job.__dataclass_fields__}
