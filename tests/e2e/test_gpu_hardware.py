"""A real GPU of NVIDIA: a kernel that runs on it, started in an image on the embedded engine.

It speaks to the driver's own library by ctypes, so that no CUDA package has to be downloaded.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import EngineUnderTest, only
from inner import Inner, outcomes

pytestmark = pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="this machine has no GPU of NVIDIA")

PROJECT = {
    "pytest.ini": "[pytest]\n",
    "test_cuda.py": '''
        import ctypes
        import os

        import pytest
        from pytest_imagebuild import Image

        IMAGE = Image.from_registry("python:3.13-slim-trixie")
        CHECK = "import ctypes; assert ctypes.CDLL('libcuda.so.1').cuInit(0) == 0"
        COUNT = 1000
        KERNEL = b"""
        .version 6.4
        .target sm_50
        .address_size 64
        .visible .entry add_one(.param .u64 numbers, .param .u32 count)
        {
            .reg .pred %p<2>;
            .reg .b32 %r<7>;
            .reg .b64 %rd<4>;
            ld.param.u64 %rd1, [numbers];
            ld.param.u32 %r1, [count];
            mov.u32 %r2, %ctaid.x;
            mov.u32 %r3, %ntid.x;
            mov.u32 %r4, %tid.x;
            mad.lo.s32 %r5, %r2, %r3, %r4;
            setp.ge.u32 %p1, %r5, %r1;
            @%p1 bra DONE;
            cvta.to.global.u64 %rd2, %rd1;
            mul.wide.u32 %rd3, %r5, 4;
            add.s64 %rd2, %rd2, %rd3;
            ld.global.u32 %r6, [%rd2];
            add.u32 %r6, %r6, 1;
            st.global.u32 [%rd2], %r6;
        DONE:
            ret;
        }
        """


        class Driver:
            def __init__(self):
                self._library = ctypes.CDLL("libcuda.so.1")

            def __getattr__(self, name):
                def call(*arguments):
                    code = getattr(self._library, name)(*arguments)
                    assert code == 0, f"{name} gives {code}"

                return call


        @pytest.fixture(scope="module")
        def cuda():
            driver = Driver()
            driver.cuInit(0)
            device, context = ctypes.c_int(), ctypes.c_void_p()
            driver.cuDeviceGet(ctypes.byref(device), 0)
            driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
            driver.cuCtxSetCurrent(context)
            return driver


        @pytest.mark.image(IMAGE, gpu="any")
        def test_just_one_is_visible(cuda):
            count = ctypes.c_int()
            cuda.cuDeviceGetCount(ctypes.byref(count))
            assert count.value == 1
            assert os.environ["CUDA_VISIBLE_DEVICES"].startswith("GPU-")


        @pytest.mark.image(IMAGE, gpu="any")
        def test_it_computes(cuda):
            numbers = (ctypes.c_uint32 * COUNT)(*range(COUNT))
            size = ctypes.c_size_t(ctypes.sizeof(numbers))
            place, module, function = ctypes.c_uint64(), ctypes.c_void_p(), ctypes.c_void_p()
            cuda.cuMemAlloc_v2(ctypes.byref(place), size)
            cuda.cuMemcpyHtoD_v2(place, numbers, size)
            cuda.cuModuleLoadData(ctypes.byref(module), KERNEL)
            cuda.cuModuleGetFunction(ctypes.byref(function), module, b"add_one")
            count = ctypes.c_uint32(COUNT)
            arguments = (ctypes.c_void_p * 2)(
                ctypes.cast(ctypes.byref(place), ctypes.c_void_p), ctypes.cast(ctypes.byref(count), ctypes.c_void_p)
            )
            cuda.cuLaunchKernel(function, 8, 1, 1, 128, 1, 1, 0, None, arguments, None)
            cuda.cuCtxSynchronize()
            cuda.cuMemcpyDtoH_v2(numbers, place, size)
            cuda.cuMemFree_v2(place)
            assert list(numbers) == [number + 1 for number in range(COUNT)]


        @pytest.mark.image(IMAGE.run_commands(f'python -c "{CHECK}"', gpu="any"))
        def test_a_step_reached_it_and_a_test_without_gpu_does_not():
            with pytest.raises(OSError):
                ctypes.CDLL("libcuda.so.1")
        ''',
}


@only("embedded")
def test_a_kernel_runs_on_the_gpu(tmp_path: Path, engine: EngineUnderTest) -> None:
    ran = Inner(tmp_path, engine).write(PROJECT).run("-v", "--gpu-missing=fail")
    assert outcomes(ran) == {
        "test_just_one_is_visible": "PASSED",
        "test_it_computes": "PASSED",
        "test_a_step_reached_it_and_a_test_without_gpu_does_not": "PASSED",
    }, ran.text
