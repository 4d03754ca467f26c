"""From a job to its plans: the question put to the search, and the answer put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from rigwise.edge import as_plain
from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.graph.graph import Model
from rigwise.market.offers import Rules, Selection, owned_quote, select
from rigwise.search.astar import AStar
from rigwise.search.bounds import Goal, Least, SiteBounds, least, reasons
from rigwise.search.estimates import Estimates
from rigwise.search.explain import advice, plan_of, with_reasons
from rigwise.search.problem import Leaf, PlanProblem
from rigwise.search.relax import infeasible, nothing_to_rent
from rigwise.search.robust import with_odds
from rigwise.search.space import Space, build_space
from rigwise.search.types import REASONS, Certificate, CoverEntry, Physics, Plan, PlanResult, State, World
from rigwise.workload.choices import Family, settle
from rigwise.workload.job import Job
