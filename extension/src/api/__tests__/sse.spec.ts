import { expect, test } from 'vitest';

import { EventParser } from '../sse';

test('events are cut where they end, whatever the chunks', () => {
  const parser = new EventParser();
  expect(parser.push('id: 7\ndata: {"type":"notice","da')).toEqual([]);
  expect(parser.push('ta":{"n":1}}\n\nid: 8\nda')).toEqual([{ id: '7', type: 'notice', data: { n: 1 } }]);
  expect(parser.push('ta: {"type":"x"}\r\n\r\n')).toEqual([{ id: '8', type: 'x', data: {} }]);
});

test('heartbeats, retry lines and broken documents are no events', () => {
  expect(new EventParser().push(': alive\n\nretry: 2000\n\ndata: {broken\n\n')).toEqual([]);
});
