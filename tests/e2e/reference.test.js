// The manual pages and the completions of shells, which the build generates from the tables of the program.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { folderWith } from '../lib/process.js';
import { BINARY, runCurlew } from '../lib/server.js';

const FOLDER = path.join(path.dirname(BINARY), 'packaging/reference');
const ZSH_MATCHES = fileURLToPath(new URL('../lib/zsh-matches.zsh', import.meta.url));
const file = (name) => path.join(FOLDER, name);
const tables = JSON.parse(readFileSync(file('tables.json'), 'utf8'));
const VERBS = ['list', 'show', 'create', 'update', 'delete', 'enable', 'disable', 'rotate-secret', 'import', 'export'];

// The page as a reader sees it, in lines that are not broken.
const shown = (name) =>
  execFileSync('groff', ['-man', '-Tutf8', '-P-cbou', '-rLL=5000n', '-rHY=0', file(name)], {
    encoding: 'utf8',
  }).replace(/[‐−]/gu, '-');

// {"apps list": help}, as the program prints it.
async function helps() {
  const found = {};
  for (const { name, commands } of tables.commands) {
    for (const words of [[name], ...commands.map((command) => [name, command.name])]) {
      found[words.join(' ')] = (await runCurlew([...words, '--help'])).stdout;
    }
  }
  return found;
}

const optionsOf = (help) => [
  ...new Set([...help.matchAll(/^ {2,6}(?:-\w, )?(?=-)(.*?)(?: {2,}|$)/gm)].flatMap(([row]) => row.match(/--[\w-]+/g))),
];

describe('manual pages', () => {
  for (const name of ['curlew.1', 'curlew.json.5']) {
    test(`${name} is clean for man and mandoc`, () => {
      const lint = spawnSync('mandoc', ['-T', 'lint', '-W', 'warning', file(name)], { encoding: 'utf8' });
      // A date would make each build differ.
      const complaints = lint.stdout.split('\n').filter((line) => line && !/missing date, using "": TH/.test(line));
      assert.deepEqual(complaints, [], lint.stderr);
      const groff = spawnSync('groff', ['-man', '-ww', '-z', '-Kutf8', file(name)], { encoding: 'utf8' });
      assert.equal(groff.status, 0);
      assert.equal(groff.stderr, '');
    });
  }

  test('curlew(1) has every command with its summary and its options', async () => {
    const page = shown('curlew.1');
    const all = await helps();
    assert.ok(VERBS.every((verb) => `apps ${verb}` in all));
    for (const [command, help] of Object.entries(all)) {
      const section = page.split(new RegExp(`^ {3}curlew ${command}$`, 'm'))[1]?.split(/^ {3}curlew |^\S/m)[0];
      assert.ok(section, `no section curlew ${command}`);
      for (const option of optionsOf(help)) {
        assert.match(section, new RegExp(`^ +(-\\w, |--id ID, )?${option}\\b`, 'm'), `${option} of curlew ${command}`);
      }
    }
    assert.match(page, /realtime server/);
  });

  test('curlew.json(5) has every setting with its default and its variables, and every field of an app', () => {
    const page = shown('curlew.json.5');
    const entries = new Map();
    for (const [, tag, text] of page.matchAll(/^ {7}(\S.*)\n {14}(.*\bValue: .*)$/gm)) entries.set(tag, text);
    for (const [, tag, text] of page.matchAll(/^ {7}(\S+) +(.*\bValue: .*)$/gm)) entries.set(tag, text);
    for (const { path: key, default: fallback, variables } of tables.settings) {
      if (key?.startsWith('database.scylladb.')) {
        assert.ok(page.includes(`, ${key}`), key);
        continue;
      }
      const tag = key ?? `${variables.join(', ')} (environment only)`;
      const [, text] = [...entries].find(([name]) => name === tag || name.startsWith(`${tag}, `)) ?? [];
      assert.ok(text, `no entry ${tag}`);
      if (fallback) assert.ok(text.includes(`Default: ${fallback}.`), `${tag}: ${text}`);
      for (const variable of key === null ? [] : variables) assert.match(text, new RegExp(`\\b${variable}\\b`), tag);
    }
    const fields = page.split('FIELDS OF AN APP')[1];
    for (const { name } of tables.fields) assert.match(fields, new RegExp(`^ {7}${name}\\b`, 'm'), name);
    assert.ok(tables.settings.length > 100 && tables.fields.length > 20);
  });
});

// What each shell offers at the end of a line.
const SHELLS = {
  bash(line, cwd) {
    const script = `
      compopt() { :; }
      source '${file('curlew.bash')}'
      COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
      _curlew
      printf '%s\n' "\${COMPREPLY[@]}"`;
    // As readline divides a line into words: "=" is one.
    const words = line.split(/ +|(=)/).filter((word) => word !== undefined);
    return execFileSync('bash', ['--norc', '-c', script, 'bash', ...words], { cwd, encoding: 'utf8' });
  },
  zsh(line, cwd) {
    const matches = execFileSync('zsh', ['-f', ZSH_MATCHES, FOLDER, line], { cwd, encoding: 'utf8' });
    return [...matches.matchAll(/<match>([^\r\n]*)/g)].map(([, match]) => match).join('\n');
  },
  fish(line, cwd) {
    const script = `source '${file('curlew.fish')}'; complete -C '${line}'`;
    const matches = execFileSync('fish', ['--no-config', '-c', script], { cwd, encoding: 'utf8' });
    return matches.replace(/\t.*/g, '').replace(/^--\w+=(?=\w)/gm, '');
  },
};

for (const [shell, complete] of Object.entries(SHELLS)) {
  describe(`completion in ${shell}`, () => {
    const offered = (line, cwd) => [...new Set(complete(line, cwd).split('\n').filter(Boolean))].sort();
    const sorted = (words) => [...words].sort();
    const commands = tables.commands.map(({ name }) => name);
    const appsCommands = tables.commands.find(({ name }) => name === 'apps').commands.map(({ name }) => name);
    const fields = tables.fields.map(({ name }) => name);

    test('commands, and commands of apps', () => {
      assert.deepEqual(offered('curlew '), sorted([...commands, 'help']));
      assert.deepEqual(offered('curlew ch'), ['check']);
      assert.deepEqual(offered('curlew apps '), sorted(appsCommands));
      assert.deepEqual(offered('curlew apps ro'), ['rotate-secret']);
      assert.deepEqual(offered('curlew help '), sorted(commands));
      assert.deepEqual(offered('curlew help apps '), sorted(appsCommands));
    });

    test('the servers of convert', () => {
      assert.deepEqual(offered('curlew convert '), sorted(['soketi', 'reverb', 'laravel-websockets', 'pusher']));
    });

    test('the options of every command', async () => {
      for (const [command, help] of Object.entries(await helps())) {
        if (command === 'apps') continue;
        assert.deepEqual(offered(`curlew ${command} --`), sorted(new Set([...optionsOf(help), '--help'])), command);
      }
    });

    test('fields of apps', () => {
      assert.deepEqual(
        offered('curlew apps list --sort max_event_'),
        fields.filter((field) => field.startsWith('max_event_')).sort(),
      );
      assert.match(offered('curlew apps update shop --set enabl').join(' '), /^enable_client_messages\b.* enabled=?$/);
      assert.ok(offered('curlew apps list --columns id,max_conn').some((word) => word.endsWith('max_connections')));
    });

    test('files', (t) => {
      const folder = folderWith(t, { 'one.json': {}, 'two.json': {} });
      for (const line of [
        'curlew serve --config ',
        'curlew check --config=',
        'curlew apps list -c ',
        'curlew apps import ',
        'curlew convert soketi ',
        'curlew --config ',
      ]) {
        assert.deepEqual(offered(line, folder), ['one.json', 'two.json'], line);
      }
      assert.deepEqual(offered('curlew apps copy --from one.json --to t', folder), ['two.json']);
      assert.deepEqual(offered('curlew listen --url ', folder), []);
    });
  });
}
