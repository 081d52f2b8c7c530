import { ServerConnection } from '@jupyterlab/services';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { Client } from '../client';
import { EventStream, RESYNC } from '../events';

const settings = ServerConnection.makeSettings({ baseUrl: 'http://lab/' });
const streams: EventStream[] = [];
let feeds: { send: (text: string) => void; end: () => void; headers: Record<string, string> }[] = [];

function open(): EventStream {
  const stream = new EventStream(new Client(settings));
  streams.push(stream);
  return stream;
}

function event(id: number, type: string): string {
  return `id: ${id}\ndata: ${JSON.stringify({ type, data: { id } })}\n\n`;
}

/** Web Locks as browsers have them: one holder a name, the others wait in line. */
class Locks {
  private readonly _tails = new Map<string, Promise<unknown>>();

  request(name: string, _options: unknown, work: () => Promise<void>): Promise<void> {
    const mine = (this._tails.get(name) ?? Promise.resolve()).then(work);
    this._tails.set(name, mine.catch(() => undefined));
    return mine;
  }
}

beforeEach(() => {
  feeds = [];
  vi.stubGlobal('navigator', { locks: new Locks() });
  vi.spyOn(Math, 'random').mockReturnValue(0);
  vi.spyOn(ServerConnection, 'makeRequest').mockImplementation(async (_url, init) => {
    let control!: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: c => void (control = c) });
    init.signal?.addEventListener('abort', () => control.error(new Error('aborted')));
    feeds.push({
      send: text => control.enqueue(new TextEncoder().encode(text)),
      end: () => control.close(),
      headers: init.headers as Record<string, string>
    });
    return new Response(body);
  });
});

afterEach(() => {
  streams.splice(0).forEach(stream => stream.dispose());
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

test('tabs share one stream, and the next one takes over after the last event seen', async () => {
  const [first, second] = [open(), open()];
  const seen: string[] = [];
  first.on('scaleout.cluster', e => seen.push(`first ${e.id}`));
  second.on('scaleout.cluster', e => seen.push(`second ${e.id}`));
  await vi.waitFor(() => expect(feeds.length).toBe(1));
  feeds[0].send(event(41, 'scaleout.cluster') + event(42, 'other'));
  await vi.waitFor(() => expect(seen).toEqual(['first 41', 'second 41']));
  first.dispose();
  await vi.waitFor(() => expect(feeds.length).toBe(2), 4000);
  expect(feeds[1].headers['Last-Event-ID']).toBe('42');
});

test('a stream that breaks is told, opened again, and everything is read anew', async () => {
  const stream = open();
  const states: boolean[] = [];
  let resyncs = 0;
  stream.stateChanged.connect((_, state) => states.push(state.online));
  stream.on(RESYNC, () => (resyncs += 1));
  await vi.waitFor(() => expect(feeds.length).toBe(1));
  feeds[0].send(event(5, 'x'));
  await vi.waitFor(() => expect(states).toEqual([true]));
  feeds[0].end();
  await vi.waitFor(() => expect(states).toEqual([true, false]));
  expect(stream.state.online).toBe(false);
  await vi.waitFor(() => expect(feeds.length).toBe(2), 4000);
  expect(feeds[1].headers['Last-Event-ID']).toBe('5');
  await vi.waitFor(() => expect([states, resyncs]).toEqual([[true, false, true], 1]));
});

test('without locks each tab reads for itself', async () => {
  vi.stubGlobal('navigator', {});
  open();
  open();
  await vi.waitFor(() => expect(feeds.length).toBe(2));
});
