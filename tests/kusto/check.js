// Reads the KQL queries of docs/detect.md with Microsoft's own parser: syntax, and the names of tables, columns and functions.
// Members of the dynamic column `Event` are unknown to the parser; tests/detections.rs checks those.

const fs = require('node:fs');
const path = require('node:path');

require('@kusto/language-service-next/bridge.js');
require('@kusto/language-service-next/Kusto.Language.Bridge.js');

const { Diagnostic, GlobalState, KustoCode, Symbols } = globalThis.Kusto.Language;

// The tables that the page describes.
const tables = [
    ['SecureScore_CL', '(TimeGenerated: datetime, Event: dynamic)'],
    ['SecureScoreLog_CL', '(TimeGenerated: datetime, Level: string, Message: string)'],
].map(([name, columns]) => new Symbols.TableSymbol.$ctor7(name, columns));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor('workspace', tables));

// Returns the parser's complaints about a query.
function complaints(query) {
    const found = KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics();
    const list = globalThis.System.Array;
    return Array.from({ length: list.getCount(found, Diagnostic) }, (_, at) => {
        const { Severity, Start, Message } = list.getItem(found, at, Diagnostic);
        return `${Severity} at ${query.slice(Start, Start + 20).trim() || 'the end'}: ${Message}`;
    });
}

// The parser must be one that complains.
for (const wrong of [
    'SecureScore_CL | filtered Event == 1',
    'SecureScore_CL | where Evnt.a == 1',
    'SecureScores_CL | take 1',
    'SecureScore_CL | where nosuch(Event)',
    'SecureScore_CL | where Event.a == "1',
]) {
    if (complaints(wrong).length === 0) throw new Error(`no complaint about ${wrong}`);
}

const page = fs.readFileSync(path.join(__dirname, '../../docs/detect.md'), 'utf8');
const queries = [...page.matchAll(/\n```kusto\n([^]*?)\n```/g)].map((block) => block[1]);
const detections = page.match(/\n### \d+\. /g).length;
if (queries.length !== detections) throw new Error(`${queries.length} queries for ${detections} detections`);
const faults = queries.flatMap((query) => complaints(query).map((text) => `${text}\n${query}\n`));
console.log([...faults, `${queries.length} queries in KQL, ${faults.length} faults`].join('\n'));
process.exitCode = faults.length > 0 ? 1 : 0;
