package ec2

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// method is a method of the SDK's client.
type method[I, O any] = func(context.Context, *I, ...func(*ec2.Options)) (*O, error)

// calls are the calls of EC2 that the driver makes, and policy.json allows. They stand for the SDK's client, which has seven
// hundred: were its type within reach of a Provider, a program that finds methods by reflection, as one with text/template
// does, would hold all of them, half of what muster weighs.
type calls struct {
	AllocateAddress               method[ec2.AllocateAddressInput, ec2.AllocateAddressOutput]
	AssociateAddress              method[ec2.AssociateAddressInput, ec2.AssociateAddressOutput]
	AuthorizeSecurityGroupIngress method[ec2.AuthorizeSecurityGroupIngressInput, ec2.AuthorizeSecurityGroupIngressOutput]
	CancelSpotInstanceRequests    method[ec2.CancelSpotInstanceRequestsInput, ec2.CancelSpotInstanceRequestsOutput]
	CreatePlacementGroup          method[ec2.CreatePlacementGroupInput, ec2.CreatePlacementGroupOutput]
	CreateSecurityGroup           method[ec2.CreateSecurityGroupInput, ec2.CreateSecurityGroupOutput]
	CreateTags                    method[ec2.CreateTagsInput, ec2.CreateTagsOutput]
	DeleteNetworkInterface        method[ec2.DeleteNetworkInterfaceInput, ec2.DeleteNetworkInterfaceOutput]
	DeletePlacementGroup          method[ec2.DeletePlacementGroupInput, ec2.DeletePlacementGroupOutput]
	DeleteSecurityGroup           method[ec2.DeleteSecurityGroupInput, ec2.DeleteSecurityGroupOutput]
	DeleteVolume                  method[ec2.DeleteVolumeInput, ec2.DeleteVolumeOutput]
	DescribeAccountAttributes     method[ec2.DescribeAccountAttributesInput, ec2.DescribeAccountAttributesOutput]
	DescribeAddresses             method[ec2.DescribeAddressesInput, ec2.DescribeAddressesOutput]
	DescribeImages                method[ec2.DescribeImagesInput, ec2.DescribeImagesOutput]
	DescribeInstanceTypeOfferings method[ec2.DescribeInstanceTypeOfferingsInput, ec2.DescribeInstanceTypeOfferingsOutput]
	DescribeInstanceTypes         method[ec2.DescribeInstanceTypesInput, ec2.DescribeInstanceTypesOutput]
	DescribeInstances             method[ec2.DescribeInstancesInput, ec2.DescribeInstancesOutput]
	DescribeNetworkInterfaces     method[ec2.DescribeNetworkInterfacesInput, ec2.DescribeNetworkInterfacesOutput]
	DescribePlacementGroups       method[ec2.DescribePlacementGroupsInput, ec2.DescribePlacementGroupsOutput]
	DescribeSecurityGroups        method[ec2.DescribeSecurityGroupsInput, ec2.DescribeSecurityGroupsOutput]
	DescribeSpotInstanceRequests  method[ec2.DescribeSpotInstanceRequestsInput, ec2.DescribeSpotInstanceRequestsOutput]
	DescribeSpotPriceHistory      method[ec2.DescribeSpotPriceHistoryInput, ec2.DescribeSpotPriceHistoryOutput]
	DescribeSubnets               method[ec2.DescribeSubnetsInput, ec2.DescribeSubnetsOutput]
	DescribeVolumes               method[ec2.DescribeVolumesInput, ec2.DescribeVolumesOutput]
	DescribeVpcs                  method[ec2.DescribeVpcsInput, ec2.DescribeVpcsOutput]
	DisassociateAddress           method[ec2.DisassociateAddressInput, ec2.DisassociateAddressOutput]
	GetConsoleOutput              method[ec2.GetConsoleOutputInput, ec2.GetConsoleOutputOutput]
	ReleaseAddress                method[ec2.ReleaseAddressInput, ec2.ReleaseAddressOutput]
	RevokeSecurityGroupIngress    method[ec2.RevokeSecurityGroupIngressInput, ec2.RevokeSecurityGroupIngressOutput]
	RunInstances                  method[ec2.RunInstancesInput, ec2.RunInstancesOutput]
	StartInstances                method[ec2.StartInstancesInput, ec2.StartInstancesOutput]
	StopInstances                 method[ec2.StopInstancesInput, ec2.StopInstancesOutput]
	TerminateInstances            method[ec2.TerminateInstancesInput, ec2.TerminateInstancesOutput]
}

func callsOf(c *ec2.Client) calls {
	return calls{
		AllocateAddress:               c.AllocateAddress,
		AssociateAddress:              c.AssociateAddress,
		AuthorizeSecurityGroupIngress: c.AuthorizeSecurityGroupIngress,
		CancelSpotInstanceRequests:    c.CancelSpotInstanceRequests,
		CreatePlacementGroup:          c.CreatePlacementGroup,
		CreateSecurityGroup:           c.CreateSecurityGroup,
		CreateTags:                    c.CreateTags,
		DeleteNetworkInterface:        c.DeleteNetworkInterface,
		DeletePlacementGroup:          c.DeletePlacementGroup,
		DeleteSecurityGroup:           c.DeleteSecurityGroup,
		DeleteVolume:                  c.DeleteVolume,
		DescribeAccountAttributes:     c.DescribeAccountAttributes,
		DescribeAddresses:             c.DescribeAddresses,
		DescribeImages:                c.DescribeImages,
		DescribeInstanceTypeOfferings: c.DescribeInstanceTypeOfferings,
		DescribeInstanceTypes:         c.DescribeInstanceTypes,
		DescribeInstances:             c.DescribeInstances,
		DescribeNetworkInterfaces:     c.DescribeNetworkInterfaces,
		DescribePlacementGroups:       c.DescribePlacementGroups,
		DescribeSecurityGroups:        c.DescribeSecurityGroups,
		DescribeSpotInstanceRequests:  c.DescribeSpotInstanceRequests,
		DescribeSpotPriceHistory:      c.DescribeSpotPriceHistory,
		DescribeSubnets:               c.DescribeSubnets,
		DescribeVolumes:               c.DescribeVolumes,
		DescribeVpcs:                  c.DescribeVpcs,
		DisassociateAddress:           c.DisassociateAddress,
		GetConsoleOutput:              c.GetConsoleOutput,
		ReleaseAddress:                c.ReleaseAddress,
		RevokeSecurityGroupIngress:    c.RevokeSecurityGroupIngress,
		RunInstances:                  c.RunInstances,
		StartInstances:                c.StartInstances,
		StopInstances:                 c.StopInstances,
		TerminateInstances:            c.TerminateInstances,
	}
}
