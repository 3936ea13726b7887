// A plug-in that needs a library which the test does not leave in its place.
extern "C" int a_function_of_the_missing_library();
extern "C" __attribute__((visibility("default"))) int uses_it() { return a_function_of_the_missing_library(); }
