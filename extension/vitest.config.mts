import { defineConfig } from 'vitest/config';

export default defineConfig({
  esbuild: { jsx: 'transform' },
  test: {
    environment: 'jsdom',
    setupFiles: ['vitest.setup.ts'],
    include: ['src/**/__tests__/*.spec.ts*'],
    server: { deps: { inline: [/@jupyterlab/, /@lumino/, /@jupyter\//, /lib0/, /y-protocols/] } }
  }
});
