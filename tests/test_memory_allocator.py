"""The caching allocator, replayed: rounding, reuse, and what must hold for any order of requests."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.estimate.allocator import CachingAllocator, OutOfMemoryError, rounded_bytes, segment_bytes
from rigwise.estimate.replay import events, replay
from rigwise.graph.liveness import alive_bytes, lifetimes
from rigwise.graph.load import read_zoo
from rigwise.workload.lower import Lowering, lower_model

MIB = 2**20


def test_small_requests_share_a_segment():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(1) for _ in range(4096)]
    assert allocator.allocated_bytes == 4096 * 512 == 2 * MIB == allocator.reserved_bytes
    allocator.allocate(1)
    assert allocator.reserved_bytes == 4 * MIB
    assert len({id(block) for block in blocks}) == 4096


def test_a_freed_block_serves_the_next_request_that_it_is_large_enough_for():
    allocator = CachingAllocator()
    allocator.release(allocator.allocate(100 * MIB))
    allocator.allocate(60 * MIB)
    allocator.allocate(40 * MIB)
    assert allocator.reserved_bytes == 100 * MIB
    allocator.allocate(11 * MIB)
    assert allocator.reserved_bytes == 112 * MIB


def test_the_smallest_block_that_is_large_enough_is_taken():
    allocator = CachingAllocator()
    large, small = allocator.allocate(100 * MIB), allocator.allocate(50 * MIB)
    allocator.release(large)
    allocator.release(small)
    assert allocator.allocate(48 * MIB) is small


def test_a_larger_request_than_any_free_block_is_a_new_segment():
    """This is how fragments come about: 90 MiB are free, and 100 MiB are lent beside them."""
    allocator = CachingAllocator()
    allocator.release(allocator.allocate(90 * MIB))
    allocator.allocate(100 * MIB)
    assert allocator.reserved_bytes == 190 * MIB


def test_at_the_limit_free_segments_are_given_back_first():
    allocator = CachingAllocator(limit_bytes=150 * MIB)
    allocator.release(allocator.allocate(90 * MIB))
    allocator.allocate(100 * MIB)
    assert allocator.reserved_bytes == 100 * MIB
    with pytest.raises(OutOfMemoryError):
        allocator.allocate(60 * MIB)


requests = st.lists(st.tuples(st.booleans(), st.integers(1, 64 * MIB)), max_size=60)


def run(allocator, steps):
    """Ask for every size; where the flag says so, hand back the oldest block first."""
    held = []
    for frees, size in steps:
        if frees and held:
            allocator.release(held.pop(0))
        held.append(allocator.allocate(size))
    for block in held:
        allocator.release(block)


@settings(max_examples=100, deadline=None)
@given(requests)
def test_never_lends_less_than_is_asked_for(steps):
    allocator = CachingAllocator()
    run(allocator, steps)
    assert allocator.peak_reserved_bytes >= allocator.peak_allocated_bytes
    assert allocator.peak_allocated_bytes % 512 == 0
    assert allocator.peak_reserved_bytes % (2 * MIB) == 0
    assert allocator.allocated_bytes == 0


@settings(max_examples=100, deadline=None)
@given(requests)
def test_what_was_freed_is_whole_again(steps):
    allocator = CachingAllocator()
    run(allocator, steps)
    allocator.give_back()
    assert allocator.reserved_bytes == 0


@settings(max_examples=100, deadline=None)
@given(requests)
def test_the_same_again_takes_no_more(steps):
    """All is free before the second time, and free segments serve what they served, or better."""
    allocator = CachingAllocator()
    run(allocator, steps)
    once = allocator.reserved_bytes
    for _ in range(8):
        run(allocator, steps)
    assert allocator.reserved_bytes <= 1.5 * once
    settled = allocator.reserved_bytes
    run(allocator, steps)
    assert allocator.reserved_bytes == settled


@given(st.integers(1, 10**10))
def test_rounding(size):
    rounded = rounded_bytes(size)
    assert size <= rounded < size + 512
    segment = segment_bytes(rounded)
    assert segment >= rounded
    assert segment % (2 * MIB) == 0


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "densenet121", "vit-b-16", "bert-base", "gpt2", "t5-small"])
@pytest.mark.parametrize("task", ["infer", "train"])
def test_a_replayed_step_asks_for_what_lifetimes_say(name, task):
    """Two computations of one peak: a sum over intervals, and every repetition of every block in turn."""
    model = read_zoo(name)
    if task not in model.graphs:
        pytest.skip(f"{name} has no {task} graph")
    ops = lower_model(model, Lowering(task=task, dtype="amp-fp16", optimizer="momentum")).step_ops
    lives = lifetimes(ops)
    sizes = {**model.graphs[task].symbols, "b": 16}
    held = lives.result_bytes(sizes)
    peak = alive_bytes(lives, held)[:, :, :, 0].sum(axis=1).max()
    replayed = replay(events(ops, lives), held[:, 0])
    assert replayed.allocated_bytes == pytest.approx(peak, rel=0.04)
    assert replayed.allocated_bytes <= replayed.reserved_bytes <= 2 * replayed.allocated_bytes


def test_a_replay_within_a_limit_says_whether_it_fits():
    ops = lower_model(read_zoo("resnet50"), Lowering(task="infer", dtype="fp32")).step_ops
    lives = lifetimes(ops)
    held = lives.result_bytes({"b": 64, "p": 224})[:, 0]
    program = events(ops, lives)
    need = replay(program, held)
    assert not replay(program, held, limit_bytes=need.allocated_bytes * 0.99).fits
    assert replay(program, held, limit_bytes=need.reserved_bytes).fits
