// What jsdom lacks and the Lab's packages ask for when they are imported.
import { cleanup } from '@testing-library/react';
import { afterEach } from 'vitest';

const absent = globalThis as unknown as Record<string, unknown>;
absent.DragEvent ??= class extends (globalThis.MouseEvent ?? Object) {};
absent.matchMedia ??= () => ({ matches: false, addEventListener: () => undefined, removeEventListener: () => undefined });
afterEach(() => cleanup());
