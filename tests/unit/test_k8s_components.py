"""Components of the manifests, combined by users."""

from __future__ import annotations

import subprocess

import pytest

from tests.cluster.program_paths import find
from tests.cluster.render import kustomize, own_overlay

pytestmark = pytest.mark.skipif(
    not find("kubectl"), reason="kubectl is missing (`make test-cluster` builds it)"
)


@pytest.mark.parametrize("other", ["planner", "spot"])
def test_an_order_that_would_lose_what_another_component_sets_is_refused(tmp_path, other):
    """The message names the component that has to be first."""
    components = f"[../../components/{other}, ../../components/gpu]"
    overlay = own_overlay(tmp_path, f"resources: [../../base]\ncomponents: {components}\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        kustomize(overlay)
    assert "components/gpu" in caught.value.stderr
    assert "test failed" in caught.value.stderr
