// What a bundler would write: a module-federation container of the one name under which front ends look for it.
//
// `init` is handed the front end's own modules, `get` the name from package.json. The modules used here are loaded
// from the front end, never brought along, so there is nothing to build: the source is what ships.
(() => {
  const here = document.currentScript.src;
  let shared = null;

  // Front ends share one version of each of their modules.
  const load = async name => {
    const [version] = Object.values(shared[name]);
    return (await version.get())();
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB['himalia-outputs'] = {
    init: scope => {
      shared = scope;
    },
    get: async () => {
      const [{ makePlugins }, apputils, coreutils, notebook, services, translation] = await Promise.all([
        import(new URL('extension.js', here)),
        load('@jupyterlab/apputils'),
        load('@jupyterlab/coreutils'),
        load('@jupyterlab/notebook'),
        load('@jupyterlab/services'),
        load('@jupyterlab/translation')
      ]);
      const plugins = makePlugins(apputils, coreutils, notebook, services, translation);
      return () => ({ __esModule: true, default: plugins });
    }
  };
})();
