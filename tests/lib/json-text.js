// The exact source text of a member, for tests of what must pass through the server untouched: JSON.parse would forget
// number formats, the order of keys, duplicates and escapes.

// The text of the value of a top-level member of a JSON object, or undefined. The text must be valid JSON.
export function memberText(json, name) {
  const reader = { json, at: 0 };
  skipSpace(reader);
  reader.at++;
  let found;
  for (;;) {
    skipSpace(reader);
    if (json[reader.at] === '}') return found;
    if (json[reader.at] === ',') {
      reader.at++;
      continue;
    }
    const key = JSON.parse(valueText(reader));
    skipSpace(reader);
    reader.at++;
    skipSpace(reader);
    const value = valueText(reader);
    if (key === name) found = value;
  }
}

function skipSpace(reader) {
  while (' \t\r\n'.includes(reader.json[reader.at])) reader.at++;
}

// Moves over one value and returns its text.
function valueText(reader) {
  const start = reader.at;
  let depth = 0;
  do {
    const c = reader.json[reader.at];
    if (c === undefined) throw new Error('the JSON text ends early');
    if (c === '"') skipString(reader);
    else {
      if (c === '{' || c === '[') depth++;
      if (c === '}' || c === ']') depth--;
      reader.at++;
      if (depth === 0 && c !== '}' && c !== ']') while (/[\w.+-]/.test(reader.json[reader.at] ?? '')) reader.at++;
    }
  } while (depth > 0);
  return reader.json.slice(start, reader.at);
}

function skipString(reader) {
  reader.at++;
  while (reader.json[reader.at] !== '"') reader.at += reader.json[reader.at] === '\\' ? 2 : 1;
  reader.at++;
}
