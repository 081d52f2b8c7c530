import { ServerConnection } from '@jupyterlab/services';
import { afterEach, expect, test, vi } from 'vitest';

import { Client, ProblemError } from '../client';
import { Resource } from '../resource';

const client = new Client(ServerConnection.makeSettings({ baseUrl: 'http://lab/user/anna/' }));
const answer = vi.spyOn(ServerConnection, 'makeRequest');

afterEach(() => answer.mockReset());

test('requests carry an id, changes also a key', async () => {
  answer.mockResolvedValue(new Response('{"name":"c1"}'));
  expect(await client.send('POST', 'scaleout/clusters', { workers: 2 })).toEqual({ name: 'c1' });
  const [url, init] = answer.mock.calls[0];
  expect(url).toBe('http://lab/user/anna/specola/api/v1/scaleout/clusters');
  const headers = init.headers as Record<string, string>;
  expect(headers['X-Request-ID']).toMatch(/^[0-9a-f]{24}$/);
  expect(headers['Idempotency-Key']).toBeTruthy();
});

test('an empty answer is null', async () => {
  answer.mockResolvedValue(new Response(null, { status: 204 }));
  expect(await client.send('DELETE', 'scaleout/clusters/c1')).toBeNull();
});

test('a problem document is thrown as it is', async () => {
  const problem = { type: 'about:blank', title: 'Too many', status: 422, detail: 'At most 8.', reason: 'too_much', request_id: 'r1' };
  const init = { status: 422, headers: { 'Content-Type': 'application/problem+json' } };
  answer.mockResolvedValue(new Response(JSON.stringify(problem), init));
  const error = (await client.get('x').catch(e => e)) as ProblemError;
  expect(error.problem).toEqual(problem);
  expect(error.isOutage).toBe(false);
});

test('any other refusal is put into words', async () => {
  answer.mockResolvedValue(new Response('<html>', { status: 403 }));
  const error = (await client.get('x').catch(e => e)) as ProblemError;
  expect(error.problem.detail).toContain('reload');
});

test('a cut network is a problem of its own', async () => {
  answer.mockRejectedValue(new TypeError('failed to fetch'));
  const error = (await client.get('x').catch(e => e)) as ProblemError;
  expect(error.problem.title).toBe('Your server does not answer');
  expect(error.isOutage).toBe(true);
});

test('a resource keeps its last value when a reading fails, and reads once more when asked meanwhile', async () => {
  let count = 0;
  const resource = new Resource(async () => {
    count += 1;
    if (count === 3) {
      throw new Error('gone');
    }
    return count;
  });
  await Promise.all([resource.refresh(), resource.refresh(), resource.refresh()]);
  await vi.waitFor(() => expect(resource.value).toBe(2));
  await resource.refresh();
  expect([resource.value, resource.problem?.title]).toEqual([2, 'gone']);
});
