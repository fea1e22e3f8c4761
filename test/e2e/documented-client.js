// The client code of the Assistant Architect's documentation, and the small part
// of an application around it, for the tests that run it in Node and in a browser.

import fs from 'node:fs';

/** The documented code, to the letter; it expects EventSource, executionId and the functions of `ui`. */
export const documentedClient = fs.readFileSync(new URL('./documented-client.txt', import.meta.url), 'utf8');

/** The functions the code calls. What each was called with goes, in order, into `calls`. */
export const uiFunctions = [
  'updatePromptStatus', 'showProgressIndicator', 'showKnowledgeIndicator', 'hideProgressIndicator',
  'showCompletionMessage', 'showErrorMessage',
];

/** The calls that a run of these events, [type, data], must lead to. */
export function expectedCalls(events) {
  return events.flatMap(([type, data]) => {
    switch (type) {
      case 'prompt-start':
        return [['updatePromptStatus', data.promptId, 'running'], ['showProgressIndicator', data.position, data.totalPrompts]];
      case 'knowledge-retrieved':
        return [['showKnowledgeIndicator', data.documentsFound]];
      case 'execution-complete':
        return [['hideProgressIndicator'], ['showCompletionMessage', data.duration]];
      case 'execution-error':
        return [['showErrorMessage', data.error]];
      default:
        return [];
    }
  });
}
