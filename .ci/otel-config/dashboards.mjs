// Holds Grafana's dashboards against the types that Grafana publishes of them: a key that it does not know, a value of
// the wrong kind, or one that is missing is an error.    node dashboards.mjs DASHBOARDS WORK
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [folder, work] = process.argv.slice(2);
const sdk = "@grafana/grafana-foundation-sdk";
// Kind of panel: type of its options, and of what its field configuration calls `custom`.
const panels = {
  stat: ["stat.Options", "never"],
  timeseries: ["timeseries.Options", "common.GraphFieldConfig"],
  bargauge: ["bargauge.Options", "never"],
  table: ["table.Options", "common.TableFieldOptions"],
  logs: ["logs.Options", "never"],
};
const queries = { prometheus: "prometheus.Dataquery", tempo: "tempo.Dataquery", loki: "loki.dataquery" };
const modules = ["dashboard", "common", ...Object.keys(panels), ...Object.keys(queries)];

const lines = modules.map((name) => `import type * as ${name} from "${sdk}/${name}";`);
// JSON has the values of enumerations, not their names.
lines.push(`
type Json<T> = T extends string ? \`\${T}\` : T extends number ? (number extends T ? T : number)
  : T extends (infer E)[] ? Json<E>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
// Left out by the builders' side of these types: they only say which kind of query it is.
type Query<T> = Omit<Json<Partial<T>>, "_implementsDataqueryVariant" | "_dataqueryVariant">;
type Shell = Omit<Json<dashboard.Dashboard>, "panels">;
type Panel = Omit<Json<dashboard.Panel>, "targets" | "options" | "fieldConfig">;
type Fields<C> = Omit<Json<dashboard.FieldConfigSource>, "defaults">
  & { defaults: Omit<Json<dashboard.FieldConfig>, "custom" | "thresholds"> & { custom?: Partial<Json<C>>, thresholds?: Thresholds } };
// The first step has no lower bound: null.
type Thresholds = { mode: "absolute" | "percentage", steps: { color: string, value: number | null }[] };
`);
let number = 0;
const holds = (type, value) => lines.push(`export const it${number++}: ${type} = ${JSON.stringify(value)};`);
let checked = 0;
for (const name of readdirSync(folder).sort()) {
  const { panels: shown, ...shell } = JSON.parse(readFileSync(join(folder, name), "utf8"));
  lines.push(`// ${name}`);
  holds("Shell", shell);
  const ids = new Set();
  for (const panel of shown) {
    if (ids.has(panel.id)) throw new Error(`${name}: two panels have the id ${panel.id}`);
    ids.add(panel.id);
    lines.push(`// ${name}: ${panel.title}`);
    if (panel.type === "row") {
      holds("Json<dashboard.RowPanel>", panel);
      continue;
    }
    const { targets, options, fieldConfig, ...rest } = panel;
    const [optionsType, custom] = panels[panel.type] ?? fail(`${name}: a panel of the type ${panel.type}`);
    holds("Panel", rest);
    holds(`Partial<Json<${optionsType}>>`, options);
    holds(`Fields<${custom}>`, fieldConfig);
    for (const target of targets) {
      holds(`Query<${queries[target.datasource.type] ?? fail(`${name}: ${target.datasource.type}`)}>`, target);
      checked += 1;
    }
  }
}
mkdirSync(work, { recursive: true });
writeFileSync(join(work, "dashboards.ts"), lines.join("\n"));
const tsc = join(import.meta.dirname, "node_modules/.bin/tsc");
const flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"];
try {
  execFileSync(tsc, [...flags, join(work, "dashboards.ts")], { stdio: "inherit" });
} catch {
  fail(`the dashboards are not as Grafana wants them; the comments in ${join(work, "dashboards.ts")} say which`);
}
console.log(`${number} parts and ${checked} queries of the dashboards are of Grafana's types`);

function fail(why) {
  console.error(why);
  process.exit(1);
}
