// The alert rules and the dashboard: promtool accepts them, the rules fire when they should, and each metric that they
// name is one that a server exposes.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { api, publish } from '../lib/api.js';
import { backendFor } from '../lib/backends/index.js';
import { connect, subscribe } from '../lib/client.js';
import { httpStub } from '../lib/http-stub.js';
import { eventually, getMetrics } from '../lib/metrics.js';
import { folderWith } from '../lib/process.js';
import { APP, serverFor } from '../lib/server.js';

const FOLDER = fileURLToPath(new URL('../../packaging/monitoring', import.meta.url));
const text = (file) => readFileSync(path.join(FOLDER, file), 'utf8');
const promtool = (...args) => execFileSync('promtool', args, { cwd: FOLDER, encoding: 'utf8' });

const rules = text('alerts.yml')
  .split(/^ {6}- (?=alert: )/m)
  .slice(1);
const dashboard = JSON.parse(text('grafana-dashboard.json'));
const targets = dashboard.panels.flatMap(({ title, targets: of = [] }) => of.map(({ expr }) => ({ title, expr })));
const variables = dashboard.templating.list.map(({ name }) => name);

// A query as Grafana sends it.
const filled = (expr) =>
  expr
    .replace(/\$\{prefix\}/g, 'sockudo_')
    .replaceAll('$__rate_interval', '5m')
    .replace(/\$(instance|app)\b/g, '.*');

test('promtool accepts the rules, and each fires when it should', () => {
  assert.match(promtool('check', 'rules', 'alerts.yml'), /SUCCESS: \d+ rules found/);
  assert.match(promtool('test', 'rules', 'alerts_test.yml'), /SUCCESS/);
  const tested = text('alerts_test.yml');
  assert.ok(rules.length >= 15);
  for (const rule of rules) {
    const name = rule.match(/^alert: (\w+)/)[1];
    assert.match(tested, new RegExp(`\\b${name}\\b`), `${name} has no test`);
    assert.match(rule, /^ +severity: (critical|warning)$/m, name);
    assert.match(rule, /^ +summary: ".+"$/m, name);
    assert.match(rule, /^ +description: >-\n +\S.{60,}/m, `${name} must say what to do`);
  }
});

test('promtool accepts each query of the dashboard', (t) => {
  const folder = folderWith(t);
  const recording = targets.map(({ expr }, i) => ({ record: `panel:${i}`, expr: filled(expr) }));
  writeFileSync(`${folder}/panels.yml`, JSON.stringify({ groups: [{ name: 'panels', rules: recording }] }));
  assert.match(
    promtool('check', 'rules', `${folder}/panels.yml`),
    new RegExp(`SUCCESS: ${targets.length} rules found`),
  );
  assert.ok(targets.length > 30);
  for (const { title, expr } of targets) assert.doesNotMatch(filled(expr), /\$/, `${title}: an unknown variable`);
  for (const name of ['datasource', 'prefix', 'instance', 'app']) assert.ok(variables.includes(name), name);
});

// The names of the metrics that servers expose, with everything on that has metrics of its own.
async function exposed(t) {
  const endpoint = await httpStub(t, { answer: () => ({ body: 'ok' }) });
  const webhooks = [{ url: `${endpoint.url}/hook`, event_types: ['channel_occupied'] }];
  const busy = await serverFor(t, { apps: [{ ...APP, webhooks }] });
  await subscribe(await connect(busy, { t }), 'my-channel');
  await publish(busy, { name: 'my-event', channel: 'my-channel', data: '{}' });
  await endpoint.requests.next();
  await eventually(busy, (metrics) => assert.ok(metrics.sum('webhook_events_sent_total') > 0));
  const sqlite = { path: path.join(folderWith(t), 'apps.db') };
  const stored = await serverFor(t, { config: { app_manager: { driver: 'sqlite' }, database: { sqlite } } });
  await api(stored, 'GET', '/channels');
  const node = await serverFor(t, { config: (await backendFor(t, 'redis')).config('nodes') });
  const names = new Set(['up', 'ALERTS']);
  for (const server of [busy, stored, node]) {
    for (const [, name] of (await getMetrics(server)).body.matchAll(/^# TYPE (\S+)/gm)) names.add(name);
  }
  return names;
}

test('each metric of the rules and of the dashboard is one that a server exposes', async (t) => {
  const there = await exposed(t);
  const expressions = [
    ...rules.map((rule) => rule.match(/^ +expr: ([\s\S]*?)^ {8}\w+:/m)[1]),
    ...targets.map(({ expr }) => filled(expr)),
    ...dashboard.templating.list.map(({ definition = '' }) => filled(definition)),
  ];
  const names = expressions.flatMap((expression) => expression.match(/\b(up|(sockudo|process)_\w+)/g) ?? []);
  assert.ok(new Set(names).size > 35, String(names));
  for (const name of names) assert.ok(there.has(name.replace(/_(bucket|sum|count)$/, '')), name);
});
