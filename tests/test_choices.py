"""What a plan may choose: recipes that divide batch, devices and model, all of them, and none twice."""

from dataclasses import replace

import pytest

from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.graph.load import load_model
from rigwise.workload.case import RECOMPUTE, check
from rigwise.workload.choices import recipes, settle, usable_devices
from rigwise.workload.job import Job
from rigwise.workload.layouts import LEAST_TOKENS, Sides, groups, layouts, sides_of
from rigwise.workload.lower import Recipe
from rigwise.workload.recipes import NAMES, Recipes

TOY = Model(
    name="toy",
    card=Card(title="Toy", reference_batch=16),
    parameters=(Parameter(name="w", shape=(1000, 1000)),),
    graphs={"train": Graph(ops=(), symbols={"b": 1}), "infer": Graph(ops=(), symbols={"b": 1})},
)
STACK = Sides(batch=64, is_training=True, heads=32, layers=24, experts=8, tokens=16384)


def a_task(model, **fields):
    return settle(Job(model=model.name, amount=1e6, unit="samples", **fields), model)


def test_recipes_of_an_image_model_divide_the_batch() -> None:
    task = a_task(TOY, batch=48)
    for count in (1, 2, 3, 4, 6, 8, 16):
        share = 48 // count
        every = recipes(task, task.families[0], count)
        for recipe in every:
            assert recipe.members == 1
            assert share % recipe.micro_batch == 0
            assert recipe.zero == 0 or count > 1
        sizes = {m for k in range(6) for m in (2**k, share // 2**k) if m and share % 2**k == 0}
        assert {recipe.micro_batch for recipe in every} == sizes
        assert len(recipes(a_task(TOY, batch=48, task="infer"), task.families[0], count)) == len(sizes)


def test_no_recipe_stands_twice_and_those_that_differ_in_recompute_stand_together() -> None:
    task = a_task(load_model("gpt2"), batch=16)
    every = list(recipes(task, task.families[0], 8, 2))
    assert len(set(every)) == len(every)
    ways = len(task.recomputes)
    for first in range(0, len(every), ways):
        run = every[first : first + ways]
        assert [recipe.recompute for recipe in run] == list(RECOMPUTE)
        assert len({replace(recipe, recompute="none") for recipe in run}) == 1


@pytest.mark.parametrize(("model", "fields"), [("gpt2", {}), ("mixtral-8x7b", {}), ("llama-3.1-8b", {"seq": 16384})])
@pytest.mark.parametrize(("count", "nodes"), [(1, 1), (6, 1), (8, 1), (16, 2)])
def test_every_recipe_is_a_case_that_means_something(model, fields, count, nodes) -> None:
    task = a_task(load_model(model), batch=24, **fields)
    every = recipes(task, task.families[0], count, nodes)
    assert len(every) > 0
    for recipe in every.take(slice(0, None, 7)):
        case = replace(task.case, count=count, nodes=nodes, device="", parallel=recipe.parallel(count))
        assert check(case) is case
        assert (count // nodes) % recipe.tensor == 0


def test_sides_of_real_models() -> None:
    def sides(name, **fields):
        return a_task(load_model(name), **fields).sides

    assert (sides("resnet50").heads, sides("resnet50").layers, sides("resnet50").experts) == (1, 0, 1)
    llama = sides("llama-3.1-70b", seq=8192)
    assert (llama.heads, llama.layers, llama.experts, llama.tokens) == (64, 80, 1, 8192)
    assert sides("mixtral-8x7b").experts == 8
    assert sides("gpt2", task="decode").tokens == 1
    assert sides_of(load_model("gpt2"), a_task(load_model("gpt2")).case) == sides("gpt2")


def test_groups_are_what_a_full_search_finds() -> None:
    """Against every way to write the devices as a product."""
    for count, nodes in ((1, 1), (4, 1), (6, 1), (8, 2), (24, 3), (16, 2)):
        found = {(g.tensor, g.context, g.pipeline, g.data) for g in groups(STACK, count, nodes)}
        expected = {
            (t, c, p, d)
            for t in (1, 2, 4, 8, 16)
            for c in (1, 2, 4)
            for p in range(1, count + 1)
            for d in range(1, count + 1)
            if t * c * p * d == count
            and (count // nodes) % t == 0
            and STACK.tokens // c >= LEAST_TOKENS
            and STACK.layers % p == 0
            and STACK.batch % d == 0
        }
        assert found == expected


def test_what_is_left_out_is_what_the_module_says() -> None:
    (pipeline,) = (g for g in groups(STACK, 8, 1) if (g.pipeline, g.data) == (4, 2))
    stages = {way.zero for way in layouts(STACK, pipeline, 4)}
    assert stages == {0, 1}
    assert {way.virtual for way in layouts(STACK, pipeline, 4)} == {1, 2}  # 24 layers do not make 16 pieces
    assert not list(layouts(STACK, pipeline, 16))  # two micro-batches for four stages
    (plain,) = (g for g in groups(STACK, 8, 1) if g.data == 8)
    assert {way.zero for way in layouts(STACK, plain, 4)} == {0, 1, 2, 3}
    assert {way.zero for way in layouts(STACK, plain, 8)} == {0, 2, 3}  # nothing accumulates
    assert {way.expert for way in layouts(STACK, plain, 8)} == {1, 2, 4, 8}
    (tensor,) = (g for g in groups(STACK, 8, 1) if g.tensor == 8)
    assert {way.sequence for way in layouts(STACK, tensor, 8)} == {False, True}
    assert {way.zero for way in layouts(STACK, tensor, 8)} == {0}


def test_one_sample_keeps_several_devices_busy_only_where_the_model_divides() -> None:
    image, stack = Sides(batch=1, is_training=False), Sides(batch=1, is_training=False, heads=32, layers=32)
    assert usable_devices(image, 8) == 1
    assert usable_devices(stack, 8) == 8
    assert usable_devices(image, 1, nodes=2) == 0
    assert usable_devices(stack, 1, nodes=2) == 1  # a stage on each
    assert usable_devices(replace(stack, is_training=True), 1, nodes=2) == 0  # one micro-batch for two stages


def test_devices_that_can_share_a_batch() -> None:
    for batch in range(1, 20):
        for available in range(1, 9):
            used = usable_devices(Sides(batch=batch, is_training=True), available)
            assert used == max(n for n in range(1, available + 1) if batch % n == 0)


def test_columns_and_recipes_are_the_same() -> None:
    task = a_task(load_model("mixtral-8x7b"), batch=8)
    every = recipes(task, task.families[0], 8)
    as_list = list(every)
    again = Recipes.of(as_list)
    assert all((again.columns[name] == every.columns[name]).all() for name in NAMES)
    assert every[3] in every
    assert every[3] in every[3:4]
    assert every[3] not in every[4:]
    assert replace(every[3], dtype="fp64") not in every
    assert Recipe(dtype=every.dtype, layout=every.layout, mode=every.mode, micro_batch=3) not in every
    assert list(Recipes.joined([every[:5], every[5:]])) == as_list
    assert (every.members == [recipe.members for recipe in as_list]).all()
