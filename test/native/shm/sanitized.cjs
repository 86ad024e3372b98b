/** Loads the addon that the environment names in the place of the usual one; in workers, too, which inherit `--require`. */
const { dlopen } = process;
process.dlopen = (module, file, ...rest) =>
  dlopen.call(process, module, file.endsWith('/iospace.node') ? process.env.SANITIZED_ADDON : file, ...rest);
