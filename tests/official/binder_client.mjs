// BinderHub's published client opens one link, in place of a browser: it prints what it was told, a line of JSON each.
// usage: node binder_client.mjs BUILD_URL PROVIDER/SPEC
import { copyFileSync } from "node:fs";

// It is written as a module but does not say so: under this name Node takes it for one.
const modules = new URL("node_modules/", import.meta.url);
const client = new URL(".binderhub-client.mjs", modules);
copyFileSync(new URL("@jupyterhub/binderhub-client/lib/client.js", modules), client);
globalThis.window = globalThis;
globalThis.document = { cookie: "", addEventListener() {}, removeEventListener() {} };
const { BinderRepository } = await import(client);

const [endpoint, spec] = process.argv.slice(2);
const repository = new BinderRepository(spec, new URL(endpoint));
for await (const line of repository.fetch()) {
  console.log(JSON.stringify(line));
  if (line.phase === "ready" || line.phase === "failed") break;
}
repository.close();
