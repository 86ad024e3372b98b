/**
 * Puts what a report is made of beside the compiled library: the style, and Apache ECharts with its licences.
 *
 *     node lib/bench/page/assemble.mjs
 *
 * Part of the build, so that an installed iospace has them and needs no package for them.
 */
import { cpSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, '../../../dist/bench/page');
const require = createRequire(import.meta.url);
const echarts = dirname(require.resolve('echarts/package.json'));
const zrender = dirname(createRequire(join(echarts, 'package.json')).resolve('zrender/package.json'));

mkdirSync(target, { recursive: true });
cpSync(join(here, 'page.css'), join(target, 'page.css'));
cpSync(join(echarts, 'dist/echarts.common.min.js'), join(target, 'echarts.js'));
cpSync(join(echarts, 'LICENSE'), join(target, 'echarts.LICENSE'));
cpSync(join(echarts, 'NOTICE'), join(target, 'echarts.NOTICE'));
cpSync(join(echarts, 'licenses/LICENSE-d3'), join(target, 'echarts.LICENSE-d3'));
cpSync(join(zrender, 'LICENSE'), join(target, 'zrender.LICENSE'));
