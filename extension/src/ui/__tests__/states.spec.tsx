import { act, fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { expect, test, vi } from 'vitest';

import { Bar, points, Sparkline } from '../charts';
import { bytes, many, span } from '../format';
import { Section } from '../Section';
import { Empty, Loading, Offline, Problem } from '../states';

const problem = { type: '', title: 'Not now', status: 503, detail: 'Try later.', reason: '', request_id: 'req-1' };

test('loading draws nothing for 200 ms, then a skeleton', () => {
  vi.useFakeTimers();
  const { container } = render(<Loading what="clusters" />);
  expect(screen.getByRole('status').getAttribute('aria-label')).toBe('Loading clusters');
  expect(container.querySelectorAll('.specola-Skeleton').length).toBe(0);
  act(() => void vi.advanceTimersByTime(250));
  expect(container.querySelectorAll('.specola-Skeleton').length).toBe(2);
  vi.useRealTimers();
});

test('empty says one thing and offers one', () => {
  render(<Empty action={<button>New</button>}>Nothing yet.</Empty>);
  expect(screen.getByText('Nothing yet.')).toBeTruthy();
  expect(screen.getByRole('button', { name: 'New' })).toBeTruthy();
});

test('a problem is an alert with its detail, a retry and its request id', async () => {
  const retry = vi.fn();
  const dismiss = vi.fn();
  const writeText = vi.fn().mockResolvedValue(undefined);
  Object.defineProperty(navigator, 'clipboard', { value: { writeText }, configurable: true });
  render(<Problem problem={problem} retry={retry} dismiss={dismiss} />);
  expect(screen.getByRole('alert').textContent).toContain('Try later.');
  fireEvent.click(screen.getByText('Retry'));
  fireEvent.click(screen.getByText('Dismiss'));
  expect([retry.mock.calls.length, dismiss.mock.calls.length]).toEqual([1, 1]);
  fireEvent.click(screen.getByText('Copy request id'));
  expect(await screen.findByText('Copied')).toBeTruthy();
  expect(writeText).toHaveBeenCalledWith('req-1');
});

test('the offline banner says when the facility was last seen', () => {
  const at = new Date(2026, 10, 21, 12, 3).getTime();
  render(<Offline since={at} />);
  expect(screen.getByRole('status').textContent).toMatch(/last seen (12:03|12:03 PM)/);
});

test('a section is a button that folds its body', () => {
  const toggle = vi.fn();
  const { rerender } = render(
    <Section id="x" title="Scale-out" summary="2 workers" open={true} toggle={toggle}>
      body
    </Section>
  );
  const head = screen.getByRole('button', { name: /Scale-out/ });
  expect(head.getAttribute('aria-expanded')).toBe('true');
  fireEvent.click(head);
  expect(toggle).toHaveBeenCalledOnce();
  rerender(
    <Section id="x" title="Scale-out" summary="" open={false} toggle={toggle}>
      body
    </Section>
  );
  expect(screen.queryByText('body')).toBeNull();
});

test('charts have words for those who do not see them', () => {
  render(<Sparkline label="Memory" caption="1 of 2 GiB" values={[1, 2]} top={2} />);
  render(<Bar label="Home" value={3} top={2} text="full" />);
  expect(screen.getByRole('img', { name: 'Memory: 1 of 2 GiB' })).toBeTruthy();
  expect(screen.getByRole('meter', { name: 'Home' }).getAttribute('aria-valuenow')).toBe('2');
  expect(points([0, 2], 2, 30, 2)).toBe('0.0,29.0 300.0,1.0');
});

test('numbers are for people', () => {
  expect([bytes(0), bytes(1536), bytes(3 * 1024 ** 3), bytes(20 * 1024 ** 3)]).toEqual(['0 B', '1.5 KiB', '3.0 GiB', '20 GiB']);
  expect([many(1, 'worker'), many(2, 'worker')]).toEqual(['1 worker', '2 workers']);
  expect([span(4000), span(120_000), span(3_600_000), span(6_120_000)]).toEqual(['4 s', '2 min', '1 h', '1 h 42 min']);
});
