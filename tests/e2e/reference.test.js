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

// What each shell offers at the end of each line, an array of words for each. One shell answers for all lines, because
// starting it takes longest.
const SHELLS = {
  bash(lines, cwd) {
    const script = `
      compopt() { :; }
      source '${file('curlew.bash')}'
      complete_words() {
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _curlew
        printf '%s\n' "\${COMPREPLY[@]}" '<end>'
      }
      while IFS= read -r line; do eval "complete_words $line"; done`;
    // As readline divides a line into words: "=" is one.
    const words = (line) => line.split(/ +|(=)/).filter((word) => word !== undefined);
    const input = lines
      .map(
        (line) =>
          `${words(line)
            .map((word) => `'${word}'`)
            .join(' ')}\n`,
      )
      .join('');
    return execFileSync('bash', ['--norc', '-c', script], { cwd, input, encoding: 'utf8' });
  },
  zsh(lines, cwd) {
    const shown = execFileSync('zsh', ['-f', ZSH_MATCHES, FOLDER, ...lines], { cwd, encoding: 'utf8' });
    return [...shown.matchAll(/<match>([^\r\n]*)|(<end>)/g)].map(([, match, end]) => match ?? end).join('\n');
  },
  fish(lines, cwd) {
    const calls = lines.map((line) => `complete -C '${line}'; echo '<end>'`);
    const script = [`source '${file('curlew.fish')}'`, ...calls].join('; ');
    const shown = execFileSync('fish', ['--no-config', '-c', script], { cwd, encoding: 'utf8' });
    return shown.replace(/\t.*/g, '').replace(/^--\w+=(?=\w)/gm, '');
  },
};

for (const [shell, complete] of Object.entries(SHELLS)) {
  describe(`completion in ${shell}`, () => {
    const offeredFor = (lines, cwd) => {
      const answers = complete(lines, cwd).split('<end>').slice(0, lines.length);
      assert.equal(answers.length, lines.length);
      return answers.map((text) => [...new Set(text.split('\n').filter(Boolean))].sort());
    };
    const offered = (line, cwd) => offeredFor([line], cwd)[0];
    const sorted = (words) => [...words].sort();
    const commands = tables.commands.map(({ name }) => name);
    const appsCommands = tables.commands.find(({ name }) => name === 'apps').commands.map(({ name }) => name);
    const fields = tables.fields.map(({ name }) => name);

    test('commands, and commands of apps', () => {
      const expected = {
        'curlew ': [...commands, 'help'],
        'curlew ch': ['check'],
        'curlew apps ': appsCommands,
        'curlew apps rot': ['rotate-secret'],
        'curlew help ': commands,
        'curlew help apps ': appsCommands,
        'curlew --': ['--config', '--help', '--version'],
      };
      assert.deepEqual(offeredFor(Object.keys(expected)), Object.values(expected).map(sorted));
    });

    test('the servers of convert', () => {
      assert.deepEqual(offered('curlew convert '), sorted(['soketi', 'reverb', 'laravel-websockets', 'pusher']));
    });

    test('the options of every command', async () => {
      const all = Object.entries(await helps()).filter(([command]) => command !== 'apps');
      const answers = offeredFor(all.map(([command]) => `curlew ${command} --`));
      for (const [i, [command, help]] of all.entries()) {
        assert.deepEqual(answers[i], sorted(new Set([...optionsOf(help), '--help'])), command);
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

    test('events of webhooks', () => {
      assert.deepEqual(offered('curlew apps test-webhook shop --event '), sorted(tables.events));
      assert.ok(tables.events.includes('member_added'));
    });

    test('files', (t) => {
      const folder = folderWith(t, { 'one.json': {}, 'two.json': {} });
      const lines = [
        'curlew serve --config ',
        'curlew check --config=',
        'curlew apps list -c ',
        'curlew apps import ',
        'curlew convert soketi ',
        'curlew --config ',
      ];
      for (const [i, answer] of offeredFor(lines, folder).entries()) {
        assert.deepEqual(answer, ['one.json', 'two.json'], lines[i]);
      }
      assert.deepEqual(offered('curlew apps copy --from one.json --to t', folder), ['two.json']);
      assert.deepEqual(offered('curlew listen --url ', folder), []);
    });
  });
}
