/** One event of the facility's stream. */
export interface IEvent {
  id: string;
  type: string;
  data: Record<string, unknown>;
}

/** Cuts a text stream into server-sent events; keeps an unfinished one until the rest arrives. */
export class EventParser {
  private _rest = '';

  /** The events that `chunk` completes; comments (heartbeats) are none. */
  push(chunk: string): IEvent[] {
    this._rest += chunk.replace(/\r\n?/g, '\n');
    const blocks = this._rest.split('\n\n');
    this._rest = blocks.pop() ?? '';
    return blocks.map(parseBlock).filter((event): event is IEvent => event !== null);
  }
}

function parseBlock(block: string): IEvent | null {
  let id = '';
  const data: string[] = [];
  for (const line of block.split('\n')) {
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'id') {
      id = value;
    } else if (field === 'data') {
      data.push(value);
    }
  }
  if (!data.length) {
    return null;
  }
  try {
    const document = JSON.parse(data.join('\n')) as { type: string; data: Record<string, unknown> };
    return { id, type: document.type, data: document.data ?? {} };
  } catch {
    return null;
  }
}
