// Linked by needs_missing.cpp, and found only where the linker finds it.
extern "C" __attribute__((visibility("default"))) int a_function_of_the_missing_library() { return 1; }
