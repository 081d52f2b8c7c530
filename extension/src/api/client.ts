import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import type { IProblem } from './types';

/** What the facility or this server said instead of an answer. */
export class ProblemError extends Error {
  constructor(readonly problem: IProblem) {
    super(problem.title);
    this.name = 'ProblemError';
  }

  /** Whether the next try may well succeed: nobody answered. */
  get isOutage(): boolean {
    return this.problem.status === 0 || this.problem.status >= 502;
  }
}

function newRequestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('');
}

function problem(status: number, title: string, detail: string, requestId: string): ProblemError {
  return new ProblemError({ type: 'about:blank', title, status, detail, reason: 'client', request_id: requestId });
}

async function refusal(response: Response, requestId: string): Promise<ProblemError> {
  if (response.headers.get('Content-Type')?.includes('problem+json')) {
    return new ProblemError((await response.json()) as IProblem);
  }
  const detail =
    response.status === 403 ? 'Your login may have ended: reload the page.' : 'Try again; if it stays, tell the operators.';
  return problem(response.status, `The server answered ${response.status}`, detail, requestId);
}

/**
 * A browser keeps six connections to a server. While the facility hangs, ours must not take them all: the Lab's own
 * requests need some to open notebooks and to talk to kernels.
 */
class Gate {
  constructor(private _free: number) {}

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this._free > 0) {
      this._free -= 1;
    } else {
      await new Promise<void>(go => this._waiting.push(go));
    }
    try {
      return await work();
    } finally {
      const next = this._waiting.shift();
      if (next) {
        next();
      } else {
        this._free += 1;
      }
    }
  }

  private readonly _waiting: (() => void)[] = [];
}

const gate = new Gate(3);

/** Speaks to the facility through this server, which adds the token. */
export class Client {
  constructor(readonly settings: ServerConnection.ISettings) {}

  /** Address of a path below `<base>/specola/`. */
  url(path: string): string {
    return URLExt.join(this.settings.baseUrl, 'specola', path);
  }

  /** A raw request; problems are thrown as ProblemError. Few run at once; a stream that is to last is not counted. */
  open(path: string, init: RequestInit = {}): Promise<Response> {
    const lasts = (init.headers as Record<string, string> | undefined)?.Accept === 'text/event-stream';
    return lasts ? this._open(path, init) : gate.pass(() => this._open(path, init));
  }

  private async _open(path: string, init: RequestInit): Promise<Response> {
    const requestId = newRequestId();
    const headers = { 'X-Request-ID': requestId, ...(init.headers as Record<string, string> | undefined) };
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(this.url(path), { ...init, headers }, this.settings);
    } catch (error) {
      if (init.signal?.aborted) {
        throw error;
      }
      throw problem(0, 'Your server does not answer', 'The network is cut, or the server was stopped.', requestId);
    }
    if (!response.ok) {
      throw await refusal(response, requestId);
    }
    return response;
  }

  /** Read something that this server knows. */
  async local<T>(path: string): Promise<T> {
    return (await (await this.open(path)).json()) as T;
  }

  /** Read something that the facility knows. */
  get<T>(path: string): Promise<T> {
    return this.local<T>(`api/v1/${path}`);
  }

  /** Make or act; a POST that is sent again by the network is done once. */
  async send<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown): Promise<T | null> {
    const headers: Record<string, string> = { 'Idempotency-Key': newRequestId() };
    const init: RequestInit = { method, headers };
    if (body !== undefined) {
      headers['Content-Type'] = 'application/json';
      init.body = JSON.stringify(body);
    }
    const response = await this.open(`api/v1/${path}`, init);
    const text = await response.text();
    return text ? (JSON.parse(text) as T) : null;
  }
}
