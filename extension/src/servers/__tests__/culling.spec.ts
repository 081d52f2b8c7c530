import { expect, test } from 'vitest';

import { moment, warning } from '../culling';

test('the warning says when and why', () => {
  const at = new Date(2026, 10, 21, 14, 5).toISOString();
  const text = warning({ id: '1', type: 'servers.culling', data: { server: '', at, why: 'nothing has happened' } });
  expect(text).toMatch(/^This server stops at .*05.* because nothing has happened\./);
  expect(warning({ id: '1', type: 'servers.culling', data: { server: 'gpu' } })).toMatch(/^Server gpu stops soon/);
  expect(moment(10)).toBe(10_000);
});
