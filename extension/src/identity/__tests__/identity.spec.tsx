import { render, screen } from '@testing-library/react';
import * as React from 'react';
import { expect, test } from 'vitest';

import { Resource } from '../../api/resource';
import type { IHome, IMe } from '../../api/types';
import { describeLimits, Identity } from '../Identity';

const me: IMe = {
  name: 'anna', full_name: 'Anna Rossi', roles: ['user'], limits: { memory_gib: 4, cores: null, workers: 8 },
  groups: [{ name: 'cms', roles: ['user'], why: 'token' }],
  rights: [{ what: 'scaleout', allowed: false, why: 'you are in no group' }]
};

function draw(home: IHome, who: IMe = me): void {
  render(<Identity me={new Resource(async () => who)} home={new Resource(async () => home)} visible={true} />);
}

test('who I am, through which groups, and why I may not', async () => {
  draw({ used: 10, quota: null, percent: null });
  expect(await screen.findByText('Anna Rossi')).toBeTruthy();
  expect(screen.getByText('user · from your login')).toBeTruthy();
  expect(screen.getByText(/no: you are in no group/)).toBeTruthy();
  expect(screen.queryByRole('alert')).toBeNull();
});

test('a home at 95 % is a warning', async () => {
  draw({ used: 95, quota: 100, percent: 95 });
  expect((await screen.findByRole('alert')).textContent).toContain('95 % full');
});

test('nobody knows me', async () => {
  draw({ used: 0, quota: null, percent: null }, { ...me, full_name: '', groups: [], rights: [] });
  expect(await screen.findByText('You are in no group.')).toBeTruthy();
});

test('a failure before the first answer is a problem', async () => {
  const broken = new Resource<IMe>(() => Promise.reject(new Error('cut')));
  render(<Identity me={broken} home={new Resource<IHome>(() => Promise.reject(new Error('cut')))} visible={false} />);
  expect((await screen.findByRole('alert')).textContent).toContain('cut');
});

test('limits that are not set are not said', () => {
  expect(describeLimits(me.limits)).toBe('4 GiB memory, 8 Dask workers');
});
