// Calls every method of the public TypeScript SDK on a running server, and compares what it answers with the SDK's own
// declarations. Standard input and output are those of python_client.py; NODE_PATH names the SDK's environment.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { AirweaveSDKClient } = require("@airweave/sdk");

const root = path.dirname(require.resolve("@airweave/sdk"));
const given = JSON.parse(fs.readFileSync(0, "utf8"));
const sent = [];
const realFetch = globalThis.fetch;
globalThis.fetch = (url, init) => {
    sent.push(`${(init && init.method) || "GET"} ${new URL(url).pathname}`);
    return realFetch(url, init);
};
const client = new AirweaveSDKClient({ apiKey: given.key, baseUrl: given.url });
const calls = {}, missing = {}, seen = new Set();

const declared = {}; // interface or alias -> its text
for (const folder of ["api/types", ...["sources", "collections", "sourceConnections"].map((name) => `api/resources/${name}/types`)]) {
    const place = path.join(root, folder);
    for (const file of fs.existsSync(place) ? fs.readdirSync(place) : []) {
        if (!file.endsWith(".d.ts")) continue;
        const text = fs.readFileSync(path.join(place, file), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
        for (const [, name, body] of text.matchAll(/export interface (\w+)[^{]*\{([\s\S]*?)\n\}/g)) {
            declared[name] = [...body.matchAll(/^\s*(\w+)(\?)?: (.*);$/gm)].map((one) => [one[1], one[2] !== "?", one[3]]);
        }
        for (const [, name, kind] of text.matchAll(/export type (\w+) = ([^;]*);/g)) declared[name] ??= kind;
    }
}

function lookAt(kind, value) {
    if (value === null || value === undefined) return;
    let found;
    if ((found = /^(.*)\[\]$/.exec(kind))) return value.forEach((one) => lookAt(found[1], one));
    if ((found = /^Record<string, (.*)>$/.exec(kind))) return Object.values(value).forEach((one) => lookAt(found[1], one));
    const name = kind.replace(/^.*\./, "");
    const fields = declared[name];
    if (!Array.isArray(fields)) return;
    seen.add(name);
    for (const [field, , type] of fields) {
        if (!(field in value)) (missing[name] ??= new Set()).add(field);
        else lookAt(type, value[field]);
    }
}

const methods = {}; // name -> what it returns
for (const group of ["sources", "collections", "sourceConnections"]) {
    const text = fs.readFileSync(path.join(root, `api/resources/${group}/client/Client.d.ts`), "utf8");
    const pattern = /^ {4}(\w+)\([^\n]*\): core\.HttpResponsePromise<(.*)>;$/gm;
    for (const [, name, kind] of text.matchAll(pattern)) methods[`${group}.${name}`] = kind;
}

async function call(name, ...args) {
    const kept = (calls[name] ??= { requests: [], error: null });
    const [group, method] = name.split(".");
    sent.length = 0;
    try {
        const answer = await client[group][method](...args);
        lookAt(methods[name], answer);
        return answer;
    } catch (error) {
        kept.error ??= `${error.constructor.name}: ${error.message}`.slice(0, 500);
        throw error;
    } finally {
        kept.requests = [...new Set([...kept.requests, ...sent])].sort();
    }
}
function expect(name, isMet, what) {
    if (!isMet) calls[name].error ??= `not as expected: ${what}`;
}
async function refused(name, kind, status, ...args) {
    const [group, method] = name.split(".");
    const error = await client[group][method](...args).then(() => null, (raised) => raised);
    expect(name, error && error.constructor.name === kind && error.statusCode === status, `${kind} ${status}, got ${error}`);
}
async function until(look, good) {
    for (const ends = Date.now() + 90_000; ; await new Promise((go) => setTimeout(go, 100))) {
        const found = await look();
        if (good(found)) return found;
        if (Date.now() > ends) throw new Error(`the last answer: ${JSON.stringify(found)}`);
    }
}

async function run() {
    const sources = await call("sources.list");
    expect("sources.list", ["folder", "stub"].every((name) => sources.some((one) => one.short_name === name)), "two sources");
    await call("sources.get", "stub");
    await refused("sources.get", "AirweaveSDKError", 404, "no-such-source");
    const made = await call("collections.create", { name: "Contract in TypeScript" });
    await refused("collections.create", "UnprocessableEntityError", 422, { name: "x" });
    const id = made.readable_id;
    const listed = await call("collections.list", { search: "typescript" });
    expect("collections.list", listed.some((one) => one.id === made.id), "the new collection");
    await call("collections.get", id);
    await refused("collections.get", "AirweaveSDKError", 404, "no-such-collection");

    fs.writeFileSync(path.join(given.folder, "pears.txt"), "Pears are stored in the cellar until winter.");
    fs.writeFileSync(path.join(given.folder, "apples.md"), "# Apples\n\nThe orchard grows apples near the river.");
    const connection = await call("sourceConnections.create", {
        short_name: "folder", readable_collection_id: id, name: "Orchard", config: { path: given.folder },
        schedule: { cron: "0 3 * * *" }, sync_immediately: false,
    });
    await call("sourceConnections.update", connection.id, { description: "fruit" });
    const connections = await call("sourceConnections.list", { collection: id });
    expect("sourceConnections.list", connections.length === 1, "one connection");
    const last = (place) => async () => (await call("sourceConnections.getSourceConnectionJobs", place, { limit: 5 }))[0];
    await call("sourceConnections.run", connection.id);
    const job = await until(last(connection.id), (one) => ["completed", "failed"].includes(one.status));
    expect("sourceConnections.run", job.status === "completed" && job.entities_inserted === 2, "two entities");
    const [again] = await call("collections.refreshAllSourceConnections", id);
    await until(last(connection.id), (one) => one.id === again.id && one.status === "completed");
    const shown = await call("sourceConnections.get", connection.id);
    expect("sourceConnections.get", shown.entities.total_entities === 2, "two entities");
    await call("collections.list", {});

    const slow = await call("sourceConnections.create", {
        short_name: "stub", readable_collection_id: id, config: { entity_count: 1000, generation_delay_ms: 100 },
        authentication: { credentials: { stub_key: "k" } }, schedule: { cron: undefined }, sync_immediately: false,
    });
    const running = await call("sourceConnections.run", slow.id, { force_full_sync: true });
    const cancelled = await call("sourceConnections.cancelJob", slow.id, running.id);
    expect("sourceConnections.cancelJob", ["cancelling", "cancelled"].includes(cancelled.status), "a cancelled job");
    await until(last(slow.id), (one) => one.status === "cancelled");

    const query = "where are pears stored?";
    const names = (answer) => answer.results.map((one) => one.name);
    const plain = await call("collections.search", id, { query, limit: 1 });
    expect("collections.search", names(plain)[0] === "pears.txt", "pears.txt");
    const filter = { must: [{ key: "name", match: { value: "apples.md" } }] };
    const filtered = await call("collections.search", id, { query, filter, generate_answer: false });
    expect("collections.search", `${names(filtered)}` === "apples.md", "what the filter lets through");
    const older = await call("collections.search", id, { query, response_type: "raw", search_method: "keyword" });
    expect("collections.search", older.status === "success", "a success");
    const legacy = await call("collections.searchGetLegacy", id, { query, response_type: "raw", limit: 1, offset: 0 });
    expect("collections.searchGetLegacy", names(legacy)[0] === "pears.txt", "pears.txt");
    await refused("collections.search", "UnprocessableEntityError", 422, id, { query: " " });

    await call("sourceConnections.delete", connection.id);
    await refused("sourceConnections.get", "AirweaveSDKError", 404, connection.id);
    await call("collections.delete", id);
}

run().then(() => null, (error) => `${error.constructor.name}: ${error.message}`.slice(0, 500)).then((stopped) => {
    const fields = Object.fromEntries(Object.entries(missing).map(([name, names]) => [name, [...names].sort()]));
    const result = { methods: Object.keys(methods).sort(), calls, stopped, missing: fields, seen: [...seen].sort() };
    process.stdout.write(JSON.stringify(result), () => process.exit(0));
});
