# Builds build/Release/iospace.node on the machine that will run it: `node-gyp rebuild`.
# For other machines there is native/CMakeLists.txt. Both take their sources from native/sources.txt.
{
  'targets': [
    {
      'target_name': 'iospace',
      'sources': ['<!@(cat native/sources.txt)'],
      'include_dirs': ['kernel-module'],
      'dependencies': ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except_all"],
      'defines': ['NAPI_VERSION=8', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS', '_FILE_OFFSET_BITS=64'],
      # Node's own common.gypi names an older standard.
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
      # shm_open() of a glibc before 2.34.
      'libraries': ['-lrt'],
      'cflags_cc': ['-std=c++20', '-Wall', '-Wextra', '-Werror', '-fvisibility=hidden'],
    },
  ],
}
