"""Traffic read from HLO: loops, channels, groups in all their spellings, links."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from bagpiper_jax.sizing.collectives import traffic

MODULE = """HloModule m, entry_computation_layout={()->f32[]}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %b = f32[] parameter(1)
}

%all-reduce-scatter.1 (p: bf16[64,32]) -> bf16[8,32] {
  %p = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.9 = bf16[64,32]{1,0:T(8,128)(2,1)} all-reduce(%p), channel_id=9, replica_groups=GROUPS, to_apply=%add
  ROOT %s = bf16[8,32]{1,0} dynamic-slice(%all-reduce.9), dynamic_slice_sizes={8,32}
}

%body (c: (s32[], f32[16])) -> (s32[], f32[16]) {
  %c = (s32[], f32[16]{0:T(128)}) parameter(0)
  %ag = (f32[2]{0}, f32[16]{0}) all-gather-start(%x), channel_id=3, replica_groups=GROUPS, dimensions={0}
  %done = f32[16]{0} all-gather-done(%ag)
  ROOT %t = (s32[], f32[16]{0:T(128)}) tuple(%i, %done)
}

%condition (c: (s32[], f32[16])) -> pred[] {
  %limit = s32[]{:T(128)} constant(36)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%begin (p: f32[4]) -> (f32[4], u32[]) {
  %ar.1 = f32[4]{0} all-reduce(%p), channel_id=1, replica_groups=GROUPS, frontend_attributes={chain_id="0"}
  ROOT %start = (f32[4]{0}, u32[]{:S(2)}) custom-call(%ar.1), custom_call_target="AsyncCollectiveStart"
}

%carry.on (p: f32[4]) -> f32[4] {
  %ar.2 = f32[4]{0} all-reduce(%p), channel_id=1, replica_groups=GROUPS, frontend_attributes={chain_id="0"}
  ROOT %product = f32[4]{0} convolution(%p, %p)
}

%body.2 (c: (s32[], f32[16])) -> (s32[], f32[16]) {
  %c2 = (s32[], f32[16]{0:T(128)}) parameter(0)
  ROOT %f0 = f32[4]{0} fusion(%y), kind=kOutput, calls=%carry.on
}

%end (p: f32[4]) -> f32[4] {
  %ar.3 = f32[4]{0} all-reduce(%p), channel_id=1, replica_groups=GROUPS, frontend_attributes={chain_id="0"}
  ROOT %done = f32[4]{0} custom-call(%ar.3), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main () -> f32[] {
  %w = (s32[], f32[16]{0:T(128)}) while(%init), condition=%condition, body=%body
  %f = bf16[8,32]{1,0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.1
  %f1 = f32[4]{0} fusion(%y), kind=kCustom, calls=%begin
  %w2 = (s32[], f32[16]{0:T(128)}) while(%init), condition=%condition, body=%body.2
  %f2 = f32[4]{0} fusion(%f1), kind=kCustom, calls=%end
  %other = f32[4]{0} all-reduce(%f2), channel_id=1, replica_groups=GROUPS, to_apply=%add
  %cp = f32[4]{0} collective-permute(%f2), channel_id=7, source_target_pairs={{0,4},{4,0}}
  ROOT %r = f32[] constant(0)
}
"""

ALL = "{{0,1,2,3,4,5,6,7}}"


def test_loops_fused_scatters_and_what_goes_on_behind_a_loop_are_counted_as_they_run():
    found = traffic(MODULE.replace("GROUPS", ALL), [0] * 8)
    assert found.count == {"all-gather": 36, "reduce-scatter": 1, "all-reduce": 2, "collective-permute": 1}
    assert found.ici["all-gather"] == 36 * 16 * 4 * 7 / 8
    assert found.ici["reduce-scatter"] == 64 * 32 * 2 * 7 / 8
    assert found.ici["all-reduce"] == 2 * 2 * 4 * 4 * 7 / 8
    assert found.ici["collective-permute"] == 16 and not found.dcn


@pytest.mark.parametrize(
    "groups, size, crosses",
    [
        (ALL, 8, True),
        ("{{0,1,2,3},{4,5,6,7}}", 4, False),
        ("[2,4]<=[8]", 4, False),
        ("[4,2]<=[2,4]T(1,0)", 2, True),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", 4, False),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", 2, True),
        ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", 4, True),
    ],
)
def test_groups_in_every_spelling_and_the_link_that_they_take(groups, size, crosses):
    found = traffic(MODULE.replace("GROUPS", groups), [0, 0, 0, 0, 1, 1, 1, 1])
    link = found.dcn if crosses else found.ici
    assert link["all-gather"] == pytest.approx(36 * 16 * 4 * (size - 1) / size)
    assert "collective-permute" in found.dcn


OFFLOADED = """
%offloaded (p: bf16[16,32]) -> bf16[64,32] {
  ROOT %all-gather.112 = bf16[64,32]{0,1:T(8,128)(2,1)} all-gather(%p), channel_id=1, replica_groups=GROUPS
}

%async (p: bf16[16,32]) -> bf16[64,32] {
  ROOT %all-gather.113.cloned.1 = bf16[64,32]{0,1:T(8,128)(2,1)} call(%p), to_apply=%offloaded, metadata={op_name="x"}
}

ENTRY %main () -> f32[] {
  %g.call-start = ((bf16[16,32]{0,1}), bf16[64,32]{0,1:T(8,128)}, u32[]{:S(8)}) async-start(%x), calls=%async
  %g.call-done = bf16[64,32]{0,1:T(8,128)(2,1)} async-done(%g.call-start), calls=%async
  %f1 = f32[4]{0} fusion(%y), kind=kCustom, calls=%begin
  %waited = f32[4]{0} all-reduce(%f1), channel_id=1, replica_groups=GROUPS, to_apply=%add
  ROOT %r = f32[] constant(0)
}
"""


def test_what_other_cores_carry_on_is_counted_once_and_as_sent_beside_computation():
    module = (MODULE[: MODULE.index("ENTRY")] + OFFLOADED).replace("GROUPS", ALL)
    found = traffic(module, [0] * 8)
    assert found.count == {"all-gather": 1, "all-reduce": 2}
    assert found.ici["all-gather"] == 64 * 32 * 2 * 7 / 8
    # Of the sums one runs inside a fusion, beside its products, and the other keeps everything waiting.
    assert found.synchronous == {"all-reduce": found.ici["all-reduce"] / 2}


STEPS = """
%steps (c: (s32[], f32[16])) -> (s32[], f32[16]) {
  %c3 = (s32[], f32[16]{0:T(128)}) parameter(0)
  %layers = (s32[], f32[16]{0:T(128)}) while(%c3), condition=%condition, body=%body
  %head = f32[4]{0} conditional(%p, %y, %y), branch_computations={%carry.on, %begin}
  ROOT %sum = f32[4]{0} all-reduce(%head), channel_id=11, replica_groups=GROUPS, to_apply=%add
}

%unfinished (c: (s32[], f32[16])) -> pred[] {
  %last = s32[]{:T(128)} constant(4)
  ROOT %le = pred[] compare(%i, %last), direction=LE
}

ENTRY %main () -> f32[] {
  %w3 = (s32[], f32[16]{0:T(128)}) while(%init), condition=%unfinished, body=%steps
  ROOT %r = f32[] constant(0)
}
"""


def test_of_steps_in_a_loop_one_is_counted_and_nothing_that_it_may_leave_out():
    module = (MODULE[: MODULE.index("ENTRY")] + STEPS).replace("GROUPS", ALL)
    assert traffic(module, [0] * 8, one_turn=True).count == {"all-gather": 36, "all-reduce": 1}
    assert traffic(module, [0] * 8).count == {"all-gather": 4 * 36, "all-reduce": 4 * 2}


def test_a_compiled_scan_over_sharded_weights_gathers_each_layer_once():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    weights = jax.ShapeDtypeStruct((6, 64, 64), jnp.float32, sharding=NamedSharding(mesh, P(None, None, "x")))
    rows = jax.ShapeDtypeStruct((8, 64), jnp.float32, sharding=NamedSharding(mesh, P("x")))
    out = NamedSharding(mesh, P("x"))

    def run(weights, rows):
        whole = NamedSharding(mesh, P())
        layer = lambda x, w: (jnp.tanh(x @ jax.lax.with_sharding_constraint(w, whole)), None)  # noqa: E731
        return jax.lax.scan(layer, rows, weights)[0]

    compiled = jax.jit(run, out_shardings=out).lower(weights, rows).compile()
    found = traffic(compiled.as_text(), [0] * 4)
    assert found.ici["all-gather"] == pytest.approx(np.prod(weights.shape) * 4 * 3 / 4)


def test_what_hosts_carry_between_slices_is_counted_once():
    transfer = (
        'frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}'
    )
    lines = f"""
  %send.22 = (bf16[48,8]{{1,0:T(8,128)(2,1)}}, u32[], token[]) send(%x, %t), channel_id=21, {transfer}
  %recv.22 = (bf16[48,8]{{1,0:T(8,128)(2,1)}}, u32[], token[]) recv(%t), channel_id=22, {transfer}
  %done = token[] send-done(%send.22), channel_id=21"""
    module = MODULE.replace("GROUPS", "{{0,1,2,3},{4,5,6,7}}").replace("  ROOT %r =", lines + "\n  ROOT %r =")
    found = traffic(module, [0, 0, 0, 0, 1, 1, 1, 1])
    assert found.dcn["all-reduce"] == 48 * 8 * 2 and found.count["all-reduce"] == 3
