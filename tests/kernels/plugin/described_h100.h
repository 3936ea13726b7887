// A device that cuDNN can make plans for without a GPU.
#pragma once

namespace trivet::testing {

// In the form of CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION. Written by hand from NVIDIA's data sheet of the H100 SXM
// and the limits of compute capability 9.0 in the CUDA C++ Programming Guide, not exported by a device.
inline constexpr const char* kDescribedH100 = R"({
  "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64], "deviceVer": 900, "driverVer": 13000,
  "cudaDeviceId": 0, "totalGlobalMem": 85017493504, "regsPerBlock": 65536, "multiProcessorCount": 132, "warpSize": 32,
  "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024,
  "maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048, "pciDeviceId": 0,
  "isTccDriver": 0, "supportCoopLaunch": 1, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000,
  "l2CacheSize": 52428800, "deviceName": "NVIDIA H100 80GB HBM3"})";

}  // namespace trivet::testing
