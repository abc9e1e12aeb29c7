// The module-federation container, as in himalia-outputs: it takes the front end's own modules and brings none.
(() => {
  const here = document.currentScript.src;
  let shared = null;

  // A front end without such a module (Jupyter Notebook has no status bar) gives nothing for it.
  const load = async name => {
    const [version] = Object.values(shared[name] ?? {});
    return version ? (await version.get())() : {};
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB['himalia-status'] = {
    init: scope => {
      shared = scope;
    },
    get: async () => {
      const [{ makePlugins }, coreutils, services, statusbar, translation, widgets] = await Promise.all([
        import(new URL('extension.js', here)),
        load('@jupyterlab/coreutils'),
        load('@jupyterlab/services'),
        load('@jupyterlab/statusbar'),
        load('@jupyterlab/translation'),
        load('@lumino/widgets')
      ]);
      const plugins = makePlugins(coreutils, services, statusbar, translation, widgets);
      return () => ({ __esModule: true, default: plugins });
    }
  };
})();
