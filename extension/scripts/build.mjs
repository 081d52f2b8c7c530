// Bundles the labextension with Jupyter's own builder, without its Python half.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const here = dirname(dirname(fileURLToPath(import.meta.url)));
const core = join(dirname(require.resolve('@jupyterlab/core-meta/package.json')), 'core.package.json');
const builder = join(dirname(require.resolve('@jupyter/builder/package.json')), 'lib', 'build-labextension.js');
const answer = spawnSync(
  process.execPath,
  [builder, '--core-package-file', core, ...process.argv.slice(2), here],
  { cwd: here, stdio: 'inherit' }
);
process.exit(answer.status ?? 1);
