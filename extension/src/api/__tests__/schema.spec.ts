// @vitest-environment node
import { readFileSync } from 'node:fs';
import openapi, { astToString } from 'openapi-typescript';
import { expect, test } from 'vitest';

test('schema.ts is what openapi.json says (npm run schema)', async () => {
  const made = astToString(await openapi(JSON.parse(readFileSync('openapi.json', 'utf-8'))));
  expect(readFileSync('src/api/schema.ts', 'utf-8')).toContain(made.trim());
});
