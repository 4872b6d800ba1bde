// The Go client of openapi-generator against a gateway: BASE TOKEN ACCOUNT. Prints one JSON line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"

	rollcall "clients.example/generated/rollcall"
)

func main() {
	base, token, account := os.Args[1], os.Args[2], os.Args[3]
	configuration := rollcall.NewConfiguration()
	configuration.Servers = rollcall.ServerConfigurations{{URL: base}}
	client := rollcall.NewAPIClient(configuration)
	ctx := context.WithValue(context.Background(), rollcall.ContextAccessToken, token)

	walk := func(limit int32, filters map[string]interface{}) []string {
		users, cursor := []string{}, ""
		for {
			call := client.DirectoryAPI.ListUsers(ctx).IntegratedAccountId(account).Limit(limit).NextCursor(cursor)
			if filters != nil {
				call = call.Filters(filters)
			}
			page, _, err := call.Execute()
			if err != nil {
				log.Fatal(err)
			}
			for _, user := range page.Result {
				users = append(users, user.Id)
			}
			if !page.NextCursor.IsSet() || page.NextCursor.Get() == nil {
				return users
			}
			cursor = *page.NextCursor.Get()
		}
	}

	_, _, err := client.DirectoryAPI.ListUsers(ctx).IntegratedAccountId("00000000-0000-4000-8000-000000000000").Execute()
	var refused *rollcall.GenericOpenAPIError
	if !errors.As(err, &refused) {
		log.Fatal("no such account, yet: ", err)
	}
	problem, ok := refused.Model().(rollcall.Problem)
	if !ok {
		log.Fatal("no problem: ", err)
	}
	found, _, err := client.AccountsAPI.GetIntegratedAccount(ctx, account).Execute()
	if err != nil {
		log.Fatal(err)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"users":    walk(7, nil),
		"inactive": walk(2, map[string]interface{}{"status": "inactive"}),
		"problem":  []interface{}{problem.Status, problem.Code, problem.Retryable},
		"account":  found.Id,
	})
}
