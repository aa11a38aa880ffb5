// What a run of these programs found, and what has to be ended after it.

const problems = [];

// In the order in which they are called; the harness' `t.after` puts its own before them.
export const ends = [];
export const owner = { after: (end) => ends.unshift(end) };

export function problem(text) {
  problems.push(text);
  if (problems.length <= 50) console.error(`WRONG: ${text}`);
}

// Runs a program to its end; exit code 1 if anything was wrong.
export async function judge(name, main) {
  try {
    await main();
  } catch (error) {
    problem(error.stack);
  }
  for (const end of ends) {
    try {
      await end();
    } catch (error) {
      problem(error.message);
    }
  }
  const found = problems.length === 0 ? 'nothing was wrong' : `${problems.length} things were wrong, see above`;
  console.log(`${name}: ${found}`);
  process.exit(problems.length === 0 ? 0 : 1);
}
