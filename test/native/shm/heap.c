/* An addon that says how many bytes of the heap are in use in this process. */
#include <malloc.h>
#include <node_api.h>

static napi_value bytes_in_use(napi_env env, napi_callback_info info)
{
	const struct mallinfo2 heap = mallinfo2();
	napi_value result = NULL;

	(void)info;
	napi_create_double(env, (double)(heap.uordblks + heap.hblkhd), &result);
	return result;
}

NAPI_MODULE_INIT()
{
	napi_value function = NULL;

	(void)exports;
	napi_create_function(env, "bytesInUse", NAPI_AUTO_LENGTH, bytes_in_use, NULL, &function);
	return function;
}
