// The marked snippets of a page: `<!-- run: NAME -->`, `<!-- file: PATH -->` or `<!-- sql: NAME -->` on the line before
// a fenced block.

const MARKED = /^<!-- (run|file|sql): (\S+) -->\n```[^\n]*\n(.*?)^```$/gms;
const MARK = /^<!-- (run|file|sql):/gm;

// {run: Map of name to commands, file: Map of path to contents, sql: Map of name to statements}, each exactly as it
// stands in the text.
export function snippets(text) {
  const found = { run: new Map(), file: new Map(), sql: new Map() };
  let count = 0;
  for (const [, kind, name, body] of text.matchAll(MARKED)) {
    if (found[kind].has(name)) throw new Error(`there are two snippets marked ${kind}: ${name}`);
    found[kind].set(name, body);
    count++;
  }
  if (count !== [...text.matchAll(MARK)].length) throw new Error('a mark has no fenced block on the line after it');
  return found;
}
