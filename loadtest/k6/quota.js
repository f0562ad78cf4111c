// 200 requests a second to a tenant with a quota of 100: k6 run loadtest/k6/quota.js
import { Counter } from 'k6/metrics';
import { check } from 'k6';
import http from 'k6/http';
import { common, get } from './lib.js';

http.setResponseCallback(http.expectedStatuses(200, 429));
const served = new Counter('served');

export const options = {
  ...common,
  scenarios: { over: { executor: 'constant-arrival-rate', rate: 200, duration: '20s', preAllocatedVUs: 200, maxVUs: 1000 } },
  // 100 a second and a burst of 100, in a little over 20 s.
  thresholds: { checks: ['rate==1.0'], served: ['count>1900', 'count<2400'] },
};

export default function () {
  const answer = get('limited', '/');
  if (answer.status === 200) {
    served.add(1);
  }
  check(answer, {
    'served, or told when to come again': (a) => a.status === 200 || (a.status === 429 && Number(a.headers['Retry-After']) > 0),
  });
}
