"""What the planner reads in compiled programs, by closed forms, and the roofline of it."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ssl_jax import parallel
from ssl_jax.plan import cost, hlo
from ssl_jax.plan.chips import CHIPS, Chip
from ssl_jax.plan.collectives import Collective, sent
from ssl_jax.plan.compilation import Facts, bytes_per_device
from ssl_jax.plan.compiler import Memory, allocated, used
from ssl_jax.plan.estimate import estimate, fits
from ssl_jax.plan.groups import groups

# A step as XLA prints it for a TPU, shortened: a fused product in a loop of three, its gradient summed over four
# devices together with the statistics of a BatchNorm, a copy to the fast memory, and an update in place.
TEXT = (pathlib.Path(__file__).parent / "step.hlo").read_text()


def test_a_program_as_text():
    program = hlo.parse(TEXT)
    assert (program.entry, program.aliased, set(program.computations)) == (
        "main",
        2,
        {"main", "fused", "body", "condition"},
    )
    gathered = program.computations["main"]["sums"]
    functions = [place.function for place in program.stack(gathered)]
    assert functions == ["cross_entropy", "sinkhorn", "make_program.<locals>.program"]


def test_the_cost_of_a_program_as_text():
    found = cost.count(hlo.parse(TEXT), devices=8)
    assert {part: n for part, n in found.flops.items() if n} == {"network": 3 * 2 * 8 * 16 * 32}
    image, matrix, product = 2 * 8 * 16, 2 * 16 * 32, 4 * 8 * 32  # bytes; of the three matrices a turn reads its own
    # The copy is made for the network; the queue is updated in place, by a row that is near, at two indices.
    network = image + 3 * (image + matrix + product + 4)
    assert {part: n for part, n in found.bytes.items() if n} == {"network": network, "other": 4 * 4 + 2 * 4}
    assert found.collectives == [
        Collective("all-reduce", "gradients", 4, 1, 4000),
        Collective("all-reduce", "BatchNorm", 4, 0, 256),
        Collective("all-gather", "Sinkhorn", 4, 1, 128),
    ]


SLICED = """HloModule jit_program

{computation}ENTRY %main (a: bf16[16]) -> bf16[4] {{
  %a = bf16[16]{{0}} parameter(0)
  %start = ((bf16[16]{{0}}), bf16[4]{{0:S(1)}}, s32[]) {operation}
  ROOT %done = bf16[4]{{0:S(1)}} {done}(%start)
}}
"""
INSIDE = """%inside (p: bf16[16]) -> bf16[4] {
  %p = bf16[16]{0} parameter(0)
  ROOT %slice = bf16[4]{0:S(1)} slice(%p), slice={[0:4]}
}

"""


@pytest.mark.parametrize(
    "text",
    [
        SLICED.format(computation="", operation="slice-start(%a), slice={[0:4]}", done="slice-done"),
        SLICED.format(computation=INSIDE, operation="async-start(%a), calls=%inside", done="async-done"),
    ],
    ids=["as_text", "dumped"],
)
def test_an_asynchronous_slice_into_the_fast_memory_reads_itself(text):
    assert sum(cost.count(hlo.parse(text), devices=1).bytes.values()) == 2 * 4


def test_a_collective_beside_a_fusion_moves_its_arrays_once():
    """Both fusions take the arrays of the same all-gather and pass them on; each has two numbers of its own."""
    fused = """%fused{n} (a: f32[4], b: f32[8], c: f32[2]) -> (f32[2], f32[4], f32[8]) {{
  %a{n} = f32[4]{{0}} parameter(0)
  %b{n} = f32[8]{{0}} parameter(1)
  %c{n} = f32[2]{{0}} parameter(2)
  %g{n} = f32[8]{{0}} all-gather(%a{n}), channel_id=7, replica_groups=[1,2]<=[2], dimensions={{0}}
  %d{n} = f32[2]{{0}} negate(%c{n})
  ROOT %t{n} = (f32[2]{{0}}, f32[4]{{0}}, f32[8]{{0}}) tuple(%d{n}, %a{n}, %g{n})
}}

"""
    entry = """ENTRY %main (x: f32[4], y: f32[8], z: f32[2]) -> (f32[2], f32[4], f32[8]) {
  %x = f32[4]{0} parameter(0)
  %y = f32[8]{0} parameter(1)
  %z = f32[2]{0} parameter(2)
  %one = (f32[2]{0}, f32[4]{0}, f32[8]{0}) fusion(%x, %y, %z), kind=kOutput, calls=%fused1
  ROOT %two = (f32[2]{0}, f32[4]{0}, f32[8]{0}) fusion(%x, %y, %z), kind=kOutput, calls=%fused2
}
"""
    text = "HloModule jit_program\n\n" + fused.format(n=1) + fused.format(n=2) + entry
    found = cost.count(hlo.parse(text), devices=2)
    assert [(one.number, one.bytes) for one in found.collectives] == [(1, 32)]
    assert sum(found.bytes.values()) == 4 * (4 + 8) + 2 * 4 * (2 + 2)


def test_the_memory_of_a_program_by_its_buffers():
    """Results that take an argument's place are counted once, and what lies in the fast memory not at all."""
    buffers = """BufferAssignment:
allocation 0: size 512, page 0, thread-local:
 value: <1 add @0> (size=4,offset=0): f32[]{:T(128)}
allocation 1: size 1000, page 0, parameter 2, shape |f32[250]| at ShapeIndex {}, maybe-live-out:
allocation 2: size 200, page 0, parameter 0, shape |f32[50]| at ShapeIndex {}:
allocation 3: size 30, page 0, maybe-live-out:
allocation 4: size 16, color 2, page 0, preallocated-temp:
allocation 5: size 7000, page 0, preallocated-temp:
allocation 6: size 26153472, color 1, page 0, preallocated-temp:
"""
    assert allocated(buffers) == Memory(1200, 30, 7512)


def test_what_crosses_between_slices():
    """Groups along `data` are of both slices, the two that gather are of one each."""
    found = cost.count(hlo.parse(TEXT), devices=8, slices=2)
    assert [one.slices for one in found.collectives] == [2, 2, 1]


# As XLA splits the all-reduce of a gradient between two slices of four: channels are counted for each kind, and only
# what made the gradient says what it is.
SLICES = """HloModule jit_program, num_partitions=4

FileNames
1 "/x/ssl_jax/networks/norm.py"

FunctionNames
1 "Dense.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=10}

StackFrames
1 {file_location_id=1 parent_frame_id=1}

%scatter (x: f32[1024]) -> f32[256] {
  %x = f32[1024]{0} parameter(0)
  %place = u32[] partition-id()
  %whole = f32[1024]{0} all-reduce(%x), channel_id=1, replica_groups={{0,1,2,3}}
  ROOT %own = f32[256]{0} dynamic-slice(%whole, %place), dynamic_slice_sizes={256}
}

ENTRY %main (a: f32[1024]) -> f32[1024] {
  %a = f32[1024]{0} parameter(0)
  %made = f32[1024]{0} negate(%a), metadata={op_name="jit(f)/transpose(jvp(Network))/dot_general" stack_frame_id=1}
  %share = f32[256]{0} fusion(%made), kind=kOutput, calls=%scatter
  %after = token[] after-all()
  %send = (f32[256]{0}, u32[], token[]) send(%share, %after), channel_id=2, is_host_transfer=true, KIND
  %recv = (f32[256]{0}, u32[], token[]) recv(%after), channel_id=1, is_host_transfer=true, KIND
  %sent = token[] send-done(%send), channel_id=2, is_host_transfer=true
  %received = (f32[256]{0}, token[]) recv-done(%recv), channel_id=1, is_host_transfer=true
  %sum = f32[256]{0} get-tuple-element(%received), index=0
  ROOT %all = f32[1024]{0} all-gather(%sum), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}
}
""".replace(
    "KIND", 'frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}'
)


def test_a_tpu_sends_a_share_of_a_gradient_to_the_other_slice():
    found = cost.count(hlo.parse(SLICES), devices=8, slices=2)
    assert found.collectives == [
        Collective("reduce-scatter", "gradients", 4, 1, 4096),
        Collective("all-gather", "gradients", 4, 1, 4096),
        Collective("all-reduce", "gradients", 2, 1, 1024, slices=2),
    ]
    within, between = np.sum([sent(one) for one in found.collectives], axis=0)
    assert (within, between) == sent(Collective("all-reduce", "gradients", 8, 1, 4096, slices=2)) == (6144, 1024)
    assert sum(found.bytes.values()) == 2 * 4096 + 5120 + 1024 + 1024 + 5120  # what is sent is read, and written there


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("replica_groups={{0,1},{2,3}}, dimensions={0}", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), to_apply=%add", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['data'=2,'model'=2] {'data'}, to_apply=%add", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['data'=2,'model'=2], device_ids=([2,2]<=[2,2]T(1,0)) {'data'}", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['data'=4] {'data':(1)2}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['data'=4] {'data':(2)2}", [[0, 1], [2, 3]]),
        ("source_target_pairs={{0,1},{1,0}}", [[0, 1], [1, 0]]),
        ("replica_groups={}, to_apply=%add", [[0, 1, 2, 3]]),
    ],
)
def test_the_devices_of_a_collective(text, expected):
    assert groups(text, 4).tolist() == expected


def compiled(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def test_flops_of_products_and_loops():
    def chain(x, matrices):
        return lax.scan(lambda x, matrix: (x @ matrix, None), x, matrices)[0]

    flops = cost.count(compiled(chain, (8, 16), (5, 16, 16)), 1).flops
    assert sum(flops.values()) == 5 * 2 * 8 * 16 * 16


def test_flops_that_a_step_may_skip_are_left_out():
    def rarely(x, matrix):
        return lax.cond(x[0, 0] > 0, lambda x: x @ matrix, lambda x: x, x)

    def either(x, matrix):
        return lax.cond(x[0, 0] > 0, lambda x: x @ matrix, lambda x: 2 * x @ matrix.T, x)

    skipped, made = (cost.count(compiled(f, (8, 16), (16, 16)), 1).flops for f in (rarely, either))
    assert sum(skipped.values()) == 0 and sum(made.values()) >= 2 * 8 * 16 * 16


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (1, 4)])
def test_flops_of_a_convolution_leave_out_its_padding(stride, groups):
    """Each of the 7 places meets 3 inputs on an axis, but for the padding beside the two ends; with stride 2, 4 do."""

    def convolve(x, kernel):
        dims = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (stride,) * 2, "SAME", dimension_numbers=dims, feature_group_count=groups
        )

    pairs = (3 * 7 - 2) if stride == 1 else (3 * 4 - 2)
    flops = cost.count(compiled(convolve, (2, 7, 7, 8), (3, 3, 8 // groups, 16)), 1).flops
    assert sum(flops.values()) == 2 * 2 * pairs**2 * (8 // groups) * 16


def test_products_that_a_tpu_writes_as_convolutions():
    """A batch of products, as in its text: the batch is an axis of the window, dilated so that only own pairs meet."""
    text = (
        "%out), window={size=64x1 stride=63x1 lhs_dilate=64x1}, dim_labels=01bf_0io1->01bf, "
        'metadata={op_name="jit(program)/dot_general" stack_frame_id=394}'
    )
    one = hlo.Instruction("c", "convolution", (hlo.Shape("f32", (64, 2, 28, 28)),), (), text)
    flops = cost.convolution(one, hlo.Shape("f32", (64, 2, 28, 28)), hlo.Shape("f32", (64, 28, 28, 1)))
    assert flops == 2 * 64 * 2 * 28 * 28 * 28


def test_a_batch_in_another_order_is_computed_by_shares():
    """After `take_rows`, each of eight devices multiplies an eighth of the rows; indexing left all of them to each."""
    mesh = parallel.make_mesh()
    split, whole = parallel.batch_sharding(mesh), parallel.replicated(mesh)
    arrays = [jnp.ones((64, 32)), jnp.asarray(np.random.default_rng(0).permutation(64)), jnp.ones((32, 32))]
    shapes = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s) for x, s in zip(arrays, (split, whole, whole), strict=True)
    ]

    def program(x, order, matrix):
        return parallel.take_rows(x, order) @ matrix

    step = jax.jit(parallel.with_mesh(mesh, program)).lower(*shapes).compile()
    assert sum(cost.count(hlo.parse(step.as_text()), 8).flops.values()) == 2 * 64 // 8 * 32 * 32
    x = np.arange(64.0 * 32, dtype=np.float32).reshape(64, 32)
    placed = [jax.device_put(array, shape.sharding) for array, shape in zip((x, *arrays[1:]), shapes, strict=True)]
    np.testing.assert_allclose(step(*placed), x[np.asarray(arrays[1])] @ np.ones((32, 32), np.float32))


def facts(**changes):
    rings = (Collective("all-reduce", "gradients", 4, 1, 100), Collective("all-gather", "loss", 4, 1, 40))
    values = {
        "topology": "toy:4",
        "chips": 4,
        "devices": 4,
        "batch_size": 64,
        "steps": 3600,
        "parameters": 1,
        "peak": 90,
    }
    own = {"flops": {"network": 300}, "bytes": {"network": 50, "loss": 10}, "collectives": rings}
    return Facts(**values | own | changes)


def test_the_roofline():
    chip = Chip(flops=100.0, memory=100.0, bandwidth=10.0, interconnect=10.0, dcn=1.0)
    bound = estimate(facts(), chip)
    assert (bound.arithmetic, bound.memory, bound.dcn) == (3.0, 6.0, 0.0)
    assert bound.interconnect == pytest.approx((2 * 3 / 4 * 100 + 3 / 4 * 40) / 10)
    assert (bound.binds, bound.images_per_second) == ("interconnect", pytest.approx(64 / 18.0))
    assert (bound.hours, bound.chip_hours) == (pytest.approx(18.0), pytest.approx(72.0))
    apart = estimate(facts(collectives=(Collective("all-reduce", "gradients", 4, 1, 100, slices=2),)), chip)
    assert (apart.interconnect, apart.dcn, apart.binds) == (10.0, 50.0, "dcn")  # all of half, and half of half, twice
    halves = estimate(facts(devices=8), chip)  # two devices a chip, as on v3: each has half of its peaks
    assert halves.arithmetic == 2 * bound.arithmetic
    assert fits(facts(), chip)
    assert not fits(facts(peak=96), chip)
    assert not fits(facts(flops={}, peak=0), chip)


@pytest.mark.parametrize(
    ("collective", "within", "between"),
    [
        (Collective("collective-permute", "loss", 8, 1, 10), 10, 0),
        (Collective("reduce-scatter", "gradients", 8, 1, 80), 70, 0),
        (Collective("all-reduce", "loss", 1, 1, 80), 0, 0),
        # Of two slices of four, or one device of each of three.
        (Collective("all-gather", "loss", 8, 1, 80, slices=2), 60, 10),
        (Collective("all-to-all", "loss", 8, 1, 80, slices=2), 30, 40),
        (Collective("collective-permute", "loss", 8, 1, 10, slices=2), 10, 10),
        (Collective("all-gather", "loss", 3, 1, 90, slices=3), 0, 60),
        (Collective("collective-permute", "loss", 3, 1, 90, slices=3), 0, 90),
    ],
)
def test_what_a_device_sends(collective, within, between):
    assert sent(collective) == (within, between)


def test_chips_have_the_ratios_of_their_kind():
    assert all(50 < chip.flops / chip.bandwidth < 700 for chip in CHIPS.values())
    assert all(8 < chip.interconnect / chip.dcn < 100 for chip in CHIPS.values() if chip.dcn)


@pytest.mark.parametrize(
    ("message", "gib"),
    [
        (  # libtpu 0.0.52; arguments and results are among what it calls temporaries
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (74.58G) exceeds available HBM (15.75G). HLO module: jit_program.",
            74.58,
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm "
            "capacity by 4.75G.",
            20.5,
        ),
        (  # with what the runtime keeps for itself
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 1.02T of "
            "30.75G hbm. Exceeded hbm capacity by 1013.73G.\n\nTotal hbm usage >= 1.03T:\n    reserved  1.25G\n",
            1.03 * 1024,
        ),
        ("RESOURCE_EXHAUSTED", 0),
    ],
)
def test_the_memory_of_a_program_that_a_compiler_refuses(message, gib):
    assert used(message) == int(gib * 2**30)


def test_the_share_of_an_argument_that_a_device_holds():
    mesh = parallel.make_mesh()
    rows = jax.ShapeDtypeStruct((16, 3), jnp.bfloat16, sharding=parallel.batch_sharding(mesh))
    key = jax.eval_shape(jax.random.key, 0).update(sharding=parallel.replicated(mesh))
    assert (bytes_per_device(rows), bytes_per_device(key)) == (2 * 3 * 2, 8)


def test_facts_survive_the_cache():
    assert Facts.read(facts().write()) == facts()
